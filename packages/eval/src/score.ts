import { strip } from './text/python-text.js';

/**
 * A prediction as RULER scores it: stripped, control characters turned into newlines, stripped again.
 *
 * @example
 * cleanPrediction(' 1234567.\u0000 '); // '1234567.'
 */
export function cleanPrediction(prediction: string): string {
  // eslint-disable-next-line no-control-regex -- the control characters are the point
  return strip(strip(prediction).replace(/[\x00-\x1f]/g, '\n'));
}

/**
 * RULER's `string_match_all` of one prediction: the share of references it contains, ignoring case, in percent.
 * A reference counts wherever it stands, so the limit on new tokens is part of the metric.
 *
 * @returns 0 to 100; 0 when there is no reference
 */
export function stringMatchAll(prediction: string, references: readonly string[]): number {
  if (references.length === 0) return 0;
  return (matches(prediction, references) / references.length) * 100;
}

/**
 * RULER's `string_match_part` of one prediction, for questions with several right answers: 100 when it contains any of
 * the references, ignoring case, else 0.
 */
export function stringMatchPart(prediction: string, references: readonly string[]): number {
  return matches(prediction, references) > 0 ? 100 : 0;
}

/** How many references a prediction contains. */
function matches(prediction: string, references: readonly string[]): number {
  const text = cleanPrediction(prediction).toLowerCase();
  return references.filter((reference) => text.includes(reference.toLowerCase())).length;
}

/** A mean with its uncertainty. */
export interface Mean {
  /** Number of values. */
  readonly n: number;
  readonly mean: number;
  /** Standard error of the mean, s/√n with the n−1 variance; `null` when there are fewer than two values. */
  readonly se: number | null;
}

/** Mean and standard error; the mean of nothing is NaN. */
export function meanOf(values: readonly number[]): Mean {
  const n = values.length;
  const mean = values.reduce((sum, value) => sum + value, 0) / n;
  if (n < 2) return { n, mean, se: null };
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { n, mean, se: Math.sqrt(squares / (n - 1) / n) };
}

/** Whether a prediction is empty after cleaning: RULER counts these as nulls. */
export function isNullPrediction(prediction: string): boolean {
  return cleanPrediction(prediction) === '';
}

/** To two decimals, as RULER reports scores. */
export function round2(value: number): number {
  return Math.round(value * 100) / 100;
}
