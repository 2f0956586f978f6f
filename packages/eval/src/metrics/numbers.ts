import { configError } from '../errors.js';

/**
 * LongBench's `count_score`: the share of the answer's numbers that are the right one.
 *
 * @returns 0 to 1; 0 when the answer has no number
 */
export function count(prediction: string, reference: string): number {
  const numbers = prediction.match(/\p{Nd}+/gu) ?? [];
  if (numbers.length === 0) return 0;
  return numbers.filter((number) => number === reference).length / numbers.length;
}

/**
 * LongBench's `retrieval_score`: the same for a reference such as `Paragraph 12`.
 *
 * @returns 0 to 1
 * @throws AccelError ERR_ACCEL_CONFIG when the reference names no paragraph
 */
export function retrieval(prediction: string, reference: string): number {
  return count(prediction, paragraph(reference, /Paragraph (\p{Nd}+)/u));
}

/**
 * LongBench's `retrieval_zh_score`: the same for a reference such as `段落12`.
 *
 * @returns 0 to 1
 * @throws AccelError ERR_ACCEL_CONFIG when the reference names no paragraph
 */
export function retrievalZh(prediction: string, reference: string): number {
  return count(prediction, paragraph(reference, /段落(\p{Nd}+)/u));
}

function paragraph(reference: string, pattern: RegExp): string {
  const number = pattern.exec(reference)?.[1];
  if (number !== undefined) return number;
  throw configError(
    `The reference answer "${reference}" names no paragraph (${pattern.source}). Check the data file.`,
  );
}
