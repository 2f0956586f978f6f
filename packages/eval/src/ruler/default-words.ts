import * as randomWords from 'random-words';
import { adjectives } from 'unique-names-generator';

/** The package exports `wordList`; its declarations call it `wordsList`. */
const { wordList } = randomWords as unknown as { readonly wordList: readonly string[] };

const LETTERS = /^[a-z]+$/i;

/** 1,200 adjectives of `unique-names-generator` (MIT), those of letters only. */
export function defaultAdjectives(): string[] {
  return adjectives.filter((word) => LETTERS.test(word));
}

/** The second half of keys: about 1,950 common English words of `random-words` (MIT), not all of them nouns. */
export function defaultNouns(): string[] {
  return wordList.filter((word) => LETTERS.test(word));
}
