import type { ThinkSettings } from './settings.js';

/** A matrix as rows of numbers. */
export type Matrix = readonly (readonly number[])[];

/** Mean of the squares in each column. */
export function meanSquares(rows: Matrix): number[] {
  const columns = rows[0]?.length ?? 0;
  return Array.from(
    { length: columns },
    (_, c) => rows.reduce((sum, row) => sum + (row[c] ?? 0) ** 2, 0) / rows.length,
  );
}

/**
 * `think_queries` and `think_scores` for one kv head, in double precision.
 * @param queries of each query head of the group, `[w][headDim]` @param keys `[rows][headDim]`
 */
export function referenceScores(
  queries: readonly Matrix[],
  keys: Matrix,
  reduce: ThinkSettings['groupReduce'],
): number[] {
  const heads = queries.map(meanSquares);
  return meanSquares(keys).map((energy, c) => {
    const of = heads.map((head) => head[c] ?? 0);
    const mean = of.reduce((sum, x) => sum + x, 0) / of.length;
    return energy * (reduce === 'mean' ? mean : Math.max(...of));
  });
}

/** `think_channels` for one head: all but the lowest scores, ascending; of equal ones the lower channel goes first. */
export function referenceChannels(scores: readonly number[], kept: number): number[] {
  return scores
    .map((score, channel) => ({ score, channel }))
    .sort((a, b) => a.score - b.score || a.channel - b.channel)
    .slice(scores.length - kept)
    .map(({ channel }) => channel)
    .sort((a, b) => a - b);
}

/** Keys and values of one head; the first `pruned` keys count in `channels` alone. */
export interface ReferenceRows {
  readonly keys: Matrix;
  readonly values: Matrix;
  readonly pruned: number;
  readonly channels: readonly number[];
}

/** Scaled logits of one query over the first `visible` rows, as the sum of two parts that the method is defined by. */
export function referenceLogits(
  query: readonly number[],
  { keys, pruned, channels }: ReferenceRows,
  visible: number,
  scale: number,
): number[] {
  const all = query.map((_, c) => c);
  return keys
    .slice(0, visible)
    .map((key, row) =>
      (row < pruned ? channels : all).reduce(
        (sum, c) => sum + scale * (query[c] ?? 0) * (key[c] ?? 0),
        0,
      ),
    );
}

/** `think_attention` for one query of one head, in double precision. */
export function referenceAttention(
  query: readonly number[],
  rows: ReferenceRows,
  visible: number,
  scale: number,
): { out: number[]; lse: number } {
  const logits = referenceLogits(query, rows, visible, scale);
  const top = Math.max(...logits);
  const weights = logits.map((logit) => Math.exp(logit - top));
  const sum = weights.reduce((total, weight) => total + weight, 0);
  const columns = rows.values[0]?.length ?? 0;
  const out = Array.from(
    { length: columns },
    (_, c) => weights.reduce((total, w, row) => total + w * (rows.values[row]?.[c] ?? 0), 0) / sum,
  );
  return visible <= 0
    ? { out: out.map(() => 0), lse: -Infinity }
    : { out, lse: top + Math.log(sum) };
}
