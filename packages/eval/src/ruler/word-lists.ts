import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileError, messageOf } from '../errors.js';
import { sortedDistinct } from '../text/python-text.js';
import { parseJson, readText } from '../text/read-text.js';

/** Words by kind, as wonderwords sorts them. */
export interface WordLists {
  readonly adjectives: readonly string[];
  readonly nouns: readonly string[];
  readonly verbs: readonly string[];
}

/** The words that `cwe` draws from. */
export interface CommonWords {
  /** Sorted, distinct. */
  readonly words: readonly string[];
  /** Drawn from instead when a list needs more different words than that. */
  readonly more: WordSource;
}

/** Words by number: a list, or one that is computed. */
export interface WordSource {
  readonly length: number;
  at(index: number): string | undefined;
}

/**
 * Reads wonderwords' lists from a folder: one file ending in `adjectivelist.txt`, one in `nounlist.txt` and one in
 * `verblist.txt`, a word a line.
 *
 * @throws AccelError ERR_ACCEL_FILE
 */
export async function readWordLists(folder: string): Promise<WordLists> {
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
    return lines(await readText(join(folder, name), 'a word list'));
  };
  return {
    adjectives: await read('adjectivelist.txt'),
    nouns: await read('nounlist.txt'),
    verbs: await read('verblist.txt'),
  };
}

/** The words of all lists. */
export function allWords({ adjectives, nouns, verbs }: WordLists): string[] {
  return sortedDistinct([...nouns, ...adjectives, ...verbs]);
}

/**
 * Reads RULER's `english_words.json` (`{"0": "word", …}`), an array in JSON, or a text with a word a line; `.gz` allowed.
 *
 * @throws AccelError ERR_ACCEL_FILE
 */
export async function readEnglishWords(path: string): Promise<readonly string[]> {
  const text = await readText(path, 'the English words');
  if (!/\.json(\.gz)?$/.test(path)) return notEmpty(lines(text), path);
  const json = parseJson(text, path);
  const words: unknown[] = typeof json === 'object' && json !== null ? Object.values(json) : [];
  return notEmpty(
    words.filter((word) => typeof word === 'string'),
    path,
  );
}

function notEmpty(words: readonly string[], path: string): readonly string[] {
  if (words.length > 0) return words;
  throw fileError(
    `${path} has no words; english_words_path takes a text with a word a line, or JSON such as {"0": "word"}.`,
  );
}

function lines(text: string): string[] {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
}
