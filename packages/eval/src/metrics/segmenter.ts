import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { configError, messageOf } from '../errors.js';

/** Splits a text into words; joined they are the text again. */
export type Segment = (text: string) => string[];

/** Sum of frequencies in jieba 0.42.1's `dict.txt`, which lists one word (B超, 3) twice; the packaged file has it once. */
const TOTAL = 60_101_967;

const BLOCK = /([\u4e00-\u9fd5a-zA-Z0-9+#&._%-]+)/;
const HAN = /([\u4e00-\u9fd5]+)/;
const LATIN = /([a-zA-Z0-9]+(?:\.\d+)?%?)/;

/**
 * Chinese word segmentation exactly as Python's jieba 0.42.1 does it in its default mode: LongBench's Chinese metrics
 * depend on it. jieba's Rust port cuts differently around `-`, `%` and `+`, so the search for the most probable words is
 * done here, over the dictionary that the port's package brings. Words that the dictionary lacks are left to the port,
 * whose hidden Markov model is the same.
 *
 * The dictionary is read at the first use (about a second, 70 MB).
 *
 * @throws AccelError ERR_ACCEL_CONFIG when `@node-rs/jieba` has no build for this platform
 */
export async function loadSegmenter(): Promise<Segment> {
  const recognise = await loadMarkovModel();
  let dictionary: Map<string, number> | undefined;
  return (text) => {
    dictionary ??= readDictionary();
    return segment(text, dictionary, recognise);
  };
}

/** Segments runs of Chinese characters as if no word were known. */
async function loadMarkovModel(): Promise<Segment> {
  try {
    const { Jieba } = await import('@node-rs/jieba');
    const withoutWords = new Jieba();
    return (run) => withoutWords.cut(run, true);
  } catch (error) {
    throw configError(
      `Chinese tasks need @node-rs/jieba, which does not load on this platform (${messageOf(error)}). ` +
        'Install it with its optional dependencies, or leave the Chinese tasks out.',
      error,
    );
  }
}

/** Frequency of every word, and 0 for beginnings of words that are none themselves. */
function readDictionary(): Map<string, number> {
  const path = createRequire(import.meta.url).resolve('@node-rs/jieba/dict.txt');
  const frequencies = new Map<string, number>();
  for (const line of readFileSync(path, 'utf8').split('\n')) {
    const [word = '', frequency] = line.split(' ');
    if (word === '') continue;
    frequencies.set(word, Number(frequency));
    for (let end = 1; end < word.length; end++) {
      const beginning = word.slice(0, end);
      if (!frequencies.has(beginning)) frequencies.set(beginning, 0);
    }
  }
  return frequencies;
}

function segment(
  text: string,
  dictionary: ReadonlyMap<string, number>,
  recognise: Segment,
): string[] {
  return text
    .split(BLOCK)
    .flatMap((part, index) =>
      index % 2 === 1 ? segmentBlock(part, dictionary, recognise) : (part.match(/\r\n|./gsu) ?? []),
    );
}

/** Words of the most probable route; runs of single characters on it may be words that the dictionary lacks. */
function segmentBlock(
  block: string,
  dictionary: ReadonlyMap<string, number>,
  recognise: Segment,
): string[] {
  const ends = mostProbableRoute(block, dictionary);
  const words: string[] = [];
  let singles = '';
  const flush = (): void => {
    if (singles.length > 1 && !dictionary.get(singles)) words.push(...unknown(singles, recognise));
    else words.push(...Array.from(singles));
    singles = '';
  };
  for (let start = 0; start < block.length;) {
    const end = ends[start] as number;
    const word = block.slice(start, end);
    if (word.length === 1) {
      singles += word;
    } else {
      flush();
      words.push(word);
    }
    start = end;
  }
  flush();
  return words;
}

function unknown(text: string, recognise: Segment): string[] {
  return text
    .split(HAN)
    .flatMap((part, index) => (index % 2 === 1 ? recognise(part) : part.split(LATIN)))
    .filter((word) => word !== '');
}

/** For each character, where the word that begins there ends on the most probable way to the end of the block. */
function mostProbableRoute(block: string, dictionary: ReadonlyMap<string, number>): Int32Array {
  const logTotal = Math.log(TOTAL);
  const best = new Float64Array(block.length + 1);
  const ends = new Int32Array(block.length);
  for (let start = block.length - 1; start >= 0; start--) {
    let value = -Infinity;
    for (let end = start + 1; end <= block.length; end++) {
      const frequency = dictionary.get(block.slice(start, end));
      if (frequency === undefined) break;
      if (frequency === 0) continue;
      const other = Math.log(frequency) - logTotal + (best[end] as number);
      // The longer word wins a draw.
      if (other < value) continue;
      value = other;
      ends[start] = end;
    }
    // Where no word begins, a single character passes for one of frequency 1.
    if (value === -Infinity) {
      value = (best[start + 1] as number) - logTotal;
      ends[start] = start + 1;
    }
    best[start] = value;
  }
  return ends;
}
