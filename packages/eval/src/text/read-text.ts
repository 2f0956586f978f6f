import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { fileError, messageOf } from '../errors.js';

/**
 * Reads a UTF-8 file; a `.gz` name is unpacked on the way.
 *
 * @param what names the file's purpose in the error message
 * @throws AccelError ERR_ACCEL_FILE
 */
export async function readText(path: string, what: string): Promise<string> {
  try {
    const bytes = await readFile(path);
    return (path.endsWith('.gz') ? await promisify(gunzip)(bytes) : bytes).toString('utf8');
  } catch (error) {
    throw fileError(
      `Cannot read ${what} from ${path}: ${messageOf(error)}. Check the path.`,
      error,
    );
  }
}

/** Parses the text of a file. @throws AccelError ERR_ACCEL_FILE */
export function parseJson(text: string, path: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw fileError(`${path} is not JSON: ${messageOf(error)}.`, error);
  }
}
