import { splitWords } from '../text/python-text.js';
import type { Segment } from './segmenter.js';

/**
 * How far the reference implementation follows a pair of sentences back before Python's recursion limit (1000 frames,
 * of which LongBench's `eval.py` has used up nine) ends it and LongBench counts 0. Measured with CPython 3.11.
 */
const LONGEST_WALK = 990;

/**
 * LongBench's `rouge_score`: ROUGE-L of pltrdy/rouge 1.0.1, summary level. Sentences end at every full stop; the score
 * is over the distinct words of the longest common subsequences of all pairs of sentences, which makes it lower or
 * higher than the ROUGE-L of other packages.
 *
 * @returns 0 to 1; 0 when either text is empty, or has sentences too long for the reference implementation
 */
export function rougeL(prediction: string, reference: string): number {
  const hypotheses = sentences(prediction);
  const references = sentences(reference);
  if (hypotheses.length === 0 || references.length === 0) return 0;

  const shared = new Set<string>();
  for (const sentence of references) {
    for (const hypothesis of hypotheses) {
      if (!addCommonWords(shared, sentence, hypothesis)) return 0;
    }
  }
  const precision = shared.size / new Set(hypotheses.flat()).size;
  const recall = shared.size / new Set(references.flat()).size;
  return 2 * ((precision * recall) / (precision + recall + 1e-8));
}

/**
 * LongBench's `rouge_zh_score`: the same over segmented Chinese text. Only an ASCII full stop ends a sentence.
 *
 * @returns 0 to 1
 */
export function rougeLZh(prediction: string, reference: string, segment: Segment): number {
  return rougeL(segment(prediction).join(' '), segment(reference).join(' '));
}

/** Words of each sentence. A sentence of nothing but space has one word, the empty one, as in Python's `''.split(' ')`. */
function sentences(text: string): string[][] {
  return text
    .split('.')
    .filter((sentence) => sentence !== '')
    .map((sentence) => splitWords(sentence))
    .map((words) => (words.length === 0 ? [''] : words));
}

/**
 * Adds the words of a longest common subsequence. Which one, where there are several, follows the reference: from the
 * end, it goes back in `x` only where that is strictly better.
 *
 * @returns false when the way back is longer than the reference implementation can go
 */
function addCommonWords(shared: Set<string>, x: readonly string[], y: readonly string[]): boolean {
  const lengths = commonLengths(x, y);
  const columns = y.length + 1;
  let i = x.length;
  let j = y.length;
  for (let steps = 0; i > 0 && j > 0; steps++) {
    if (steps === LONGEST_WALK) return false;
    const word = x[i - 1] as string;
    if (word === y[j - 1]) {
      shared.add(word);
      i--;
      j--;
    } else if (
      (lengths[(i - 1) * columns + j] as number) > (lengths[i * columns + j - 1] as number)
    ) {
      i--;
    } else {
      j--;
    }
  }
  return true;
}

/** Length of the longest common subsequence of every pair of prefixes, `[x.length + 1, y.length + 1]`. */
function commonLengths(x: readonly string[], y: readonly string[]): Uint32Array {
  const columns = y.length + 1;
  const lengths = new Uint32Array((x.length + 1) * columns);
  for (let i = 1; i <= x.length; i++) {
    for (let j = 1; j <= y.length; j++) {
      const above = (i - 1) * columns + j;
      lengths[above + columns] =
        x[i - 1] === y[j - 1]
          ? (lengths[above - 1] as number) + 1
          : Math.max(lengths[above] as number, lengths[above + columns - 1] as number);
    }
  }
  return lengths;
}
