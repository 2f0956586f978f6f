import * as randomWords from 'random-words';
import { adjectives } from 'unique-names-generator';
import type { WordLists } from './word-lists.js';

/** The package exports `wordList`; its declarations call it `wordsList`. */
const { wordList } = randomWords as unknown as { readonly wordList: readonly string[] };

const LETTERS = /^[a-z]+$/i;

/**
 * Free words for keys: the 1,200 adjectives of `unique-names-generator` (MIT) and about 1,950 common English words of
 * `random-words` (MIT), not all of them nouns.
 */
export function defaultWordLists(): WordLists {
  return {
    adjectives: adjectives.filter((word) => LETTERS.test(word)),
    nouns: wordList.filter((word) => LETTERS.test(word)),
    verbs: [],
  };
}

/** Words that are never capitalised, hyphenated or cut by an apostrophe where they stand. */
const PLAIN_WORD = /(?<![\w'’-])[a-z]{4,}(?![\w'’-])/g;

/**
 * Free words for `cwe`: those of the lists and of a text, sorted. Words of fewer than four letters are left out, since
 * answers are looked for as parts of what the model writes, and "at" is part of anything.
 */
export function defaultCommonWords({ adjectives, nouns }: WordLists, text: string): string[] {
  const words = new Set([...adjectives, ...nouns, ...(text.match(PLAIN_WORD) ?? [])]);
  return [...words].filter((word) => word.length >= 4).sort();
}
