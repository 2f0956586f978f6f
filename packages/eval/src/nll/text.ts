import { fileError } from '../errors.js';
import { readDefaultEssay } from '../text/essay.js';
import { readText } from '../text/read-text.js';

/**
 * The text whose likelihood is measured: a UTF-8 file (`.gz` is unpacked), or Moby-Dick.
 *
 * @throws AccelError ERR_ACCEL_FILE
 */
export async function readNllText(path: string | undefined): Promise<string> {
  if (path === undefined) return readDefaultEssay();
  const text = await readText(path, 'the text');
  if (text.trim() === '') throw fileError(`The text ${path} is empty. Check text_path.`);
  return text;
}
