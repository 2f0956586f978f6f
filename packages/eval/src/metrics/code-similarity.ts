import { sequenceRatio } from './sequence-matcher.js';

/**
 * LongBench's `code_sim_score`: how alike the first line of code in the answer is to the reference, as fuzzywuzzy's
 * `fuzz.ratio` without python-Levenshtein tells it (with that package installed it computes another measure, and
 * published numbers exist of both kinds). Lines with a backtick, `#` or `//` count as talk.
 *
 * @returns 0 to 1 in hundredths
 */
export function codeSimilarity(prediction: string, reference: string): number {
  const lines = prediction.replace(/^\n+/, '').split('\n');
  const line = lines.find((text) => !/`|#|\/\//.test(text)) ?? '';
  if (line === reference) return 1;
  if (line === '' || reference === '') return 0;
  return roundHalfEven(100 * sequenceRatio(line, reference)) / 100;
}

/** Python's `round` of a value that is not negative. */
function roundHalfEven(value: number): number {
  const below = Math.floor(value);
  if (value - below !== 0.5) return Math.round(value);
  return below % 2 === 0 ? below : below + 1;
}
