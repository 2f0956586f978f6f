import { randomUUID } from 'node:crypto';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { fileError, messageOf } from '../errors.js';

/**
 * Writes a file whole or not at all: into a neighbour first, which then takes its place.
 *
 * @throws AccelError ERR_ACCEL_FILE
 */
export async function writeWhole(path: string, text: string): Promise<void> {
  const temporary = `${path}.${randomUUID()}.tmp`;
  try {
    await mkdir(dirname(path), { recursive: true });
    await writeFile(temporary, text, { flush: true });
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw fileError(
      `Cannot write ${path}: ${messageOf(error)}. Check the folder's permissions and free space.`,
      error,
    );
  }
}
