/**
 * The built-in ops, one function each. They enqueue on a stream and return; argument errors are thrown at once, errors
 * in the data (`ERR_ACCEL_NAN`, ids out of range) reject the next `synchronize` or `read`.
 *
 * T packed tokens, Hq query heads, Hk key-value heads, d head dimension. Float tensors of one call have one dtype
 * (float32, bfloat16 or float16) unless said otherwise; sums are always float32. Outputs come first.
 */
import { NO_RANGES, op } from './builtin-op.js';
import type { KvArg } from './kv-arg.js';
import type { Stream } from './stream.js';
import type { Tensor } from './tensor.js';

export * from './block-ops.js';
export { dequantize } from './dequantize.js';
export * from './tally-ops.js';
export * from './transfer-ops.js';

/** How scores of the query heads of one group become one row per key-value head; `none` keeps the query heads. */
export type GroupReduce = 'none' | 'mean' | 'max' | 'sum';

const REDUCE: Readonly<Record<GroupReduce, number>> = { none: 0, mean: 1, max: 2, sum: 3 };

/** Looks up token vectors. @param out `[T, H]` @param ids int32 `[T]` @param table `[V, H]` */
export function embedding(stream: Stream, out: Tensor, ids: Tensor, table: Tensor): void {
  stream.run(op('embedding'), out, ids, table);
}

/**
 * `out = round(x / sqrt(mean(x²) + eps)) · weight`, per row. `out` may be `x`.
 * @param out `[T, H]` @param x `[T, H]` @param weight `[H]`
 */
export function rmsnorm(stream: Stream, out: Tensor, x: Tensor, weight: Tensor, eps: number): void {
  stream.run(op('rmsnorm'), out, x, weight, eps);
}

/**
 * `out = x · weightᵀ (+ bias) (+ out)`.
 * @param out `[M, N]`; may be float32 when `x` is bfloat16 or float16
 * @param x `[M, K]` @param weight `[N, K]` @param bias `[N]` or null
 * @param accumulate adds to what `out` holds
 */
export function linear(
  stream: Stream,
  out: Tensor,
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null = null,
  accumulate = false,
): void {
  stream.run(op('linear'), out, x, weight, bias, Number(accumulate));
}

/** `out = gate · sigmoid(gate) · up`. All `[M, I]`; `out` may be `gate`. */
export function swiglu(stream: Stream, out: Tensor, gate: Tensor, up: Tensor): void {
  stream.run(op('swiglu'), out, gate, up);
}

/**
 * Cosine and sine of `position · invFreq`, computed in float64, times `scale`.
 * @param table float32 `[T, r/2, 2]` @param positions int32 `[T]`, may be negative @param invFreq float64 `[r/2]`
 */
export function ropeTable(
  stream: Stream,
  table: Tensor,
  positions: Tensor,
  invFreq: Tensor,
  scale = 1,
): void {
  stream.run(op('rope_table'), table, positions, invFreq, scale);
}

/**
 * Rotates the first r dimensions of every head of `x` in place.
 * @param x `[T, heads, d]` @param table of {@link ropeTable}
 * @param interleaved pairs are (2c, 2c+1) instead of (c, c + r/2)
 */
export function rope(stream: Stream, x: Tensor, table: Tensor, interleaved = false): void {
  stream.run(op('rope'), x, table, Number(interleaved));
}

/**
 * Writes keys, values and positions into the last `lens[b]` rows of sequence b. Room was made by `KvSequence.reserve`.
 * @param k `[T, Hk, d]` @param v `[T, Hk, d]` @param positions int32 `[T]` @param lens tokens of each sequence, sum T
 */
export function kvAppend(
  stream: Stream,
  kv: KvArg,
  k: Tensor,
  v: Tensor,
  positions: Tensor,
  lens: Int32Array,
): void {
  stream.run(op('kv_append'), kv, k, v, positions, lens);
}

/** Options of {@link attention}. */
export interface AttentionOptions {
  /** Factor of the logits, usually 1/√d. */
  readonly scale: number;
  /** Query i of m over n rows sees rows up to n − m + i. */
  readonly causal: boolean;
  /**
   * The model's sliding window in positions: of these rows, those whose original position is less than `window` behind
   * that of the query's own row, n − m + i. It does not reach further back when rows in between have left. Default 0, no
   * limit.
   */
  readonly window?: number;
  /** `[begin, end)` for each sequence: only these rows are visible, on top of causal and window. Default all. */
  readonly ranges?: Int32Array;
}

/**
 * Softmax attention of packed queries over cached rows; query head h uses kv head ⌊h·Hk/Hq⌋.
 * @param out `[T, Hq, d]`; zero where nothing is visible
 * @param lse float32 `[T, Hq]` or null: natural log of the sum of exp(scaled logits); −∞ where nothing is visible
 * @param q `[T, Hq, d]` @param lens queries of each sequence, sum T
 */
export function attention(
  stream: Stream,
  out: Tensor,
  lse: Tensor | null,
  q: Tensor,
  kv: KvArg,
  lens: Int32Array,
  options: AttentionOptions,
): void {
  const { scale, causal, window = 0, ranges = NO_RANGES } = options;
  stream.run(op('attention'), out, lse, q, kv, lens, scale, Number(causal), window, ranges);
}

/** Options of {@link observeScores}. */
export interface ScoreOptions {
  /** Factor of the logits, usually 1/√d. */
  readonly scale: number;
  /** What happens to the query heads of a group. */
  readonly reduce: GroupReduce;
  /** The sliding window of {@link AttentionOptions}: other rows receive nothing. Default 0, no limit. */
  readonly window?: number;
}

/**
 * The attention that the last w queries pay to every row: softmax over all n rows (of the window), causal inside the last
 * w, summed over the w queries.
 * @param out float32 `[Hs, n]`; Hs is Hq for `reduce: 'none'`, else Hk
 * @param q `[w, Hq, d]` @param kv one sequence whose heads all have n rows
 */
export function observeScores(
  stream: Stream,
  out: Tensor,
  q: Tensor,
  kv: KvArg,
  options: ScoreOptions,
): void {
  const { scale, reduce, window = 0 } = options;
  stream.run(op('observe_scores'), out, q, kv, scale, REDUCE[reduce], window);
}

/** Options of {@link columnSums}. */
export interface ColumnSumsOptions extends ScoreOptions {
  /**
   * Adds to what `out` holds, for a prompt that comes in chunks: the columns of the last T rows, which are new, are
   * set, those before are added to. Not with `reduce: 'max'`. Default false.
   */
  readonly accumulate?: boolean;
  /** `[begin, end)`: only these columns are written. Default all. */
  readonly range?: readonly [begin: number, end: number];
  /** The mask of {@link blockSparseAttention} that `lse` comes from: only pairs in its blocks count. Default all. */
  readonly mask?: Tensor;
}

/**
 * The attention mass of every row: the sum over the last T queries of exp(logit − lse), causal. With T = 1 these are
 * the probabilities of a decode step.
 * @param out float32 `[Hs, m]`, m at least n, of which n columns are written; Hs as in {@link observeScores}
 * @param q `[T, Hq, d]` @param lse float32 `[T, Hq]` @param kv one sequence whose heads all have n rows
 * @throws AccelError `ERR_ACCEL_SHAPE`, `ERR_ACCEL_DTYPE`, `ERR_ACCEL_ARGUMENT`
 */
export function columnSums(
  stream: Stream,
  out: Tensor,
  q: Tensor,
  lse: Tensor,
  kv: KvArg,
  options: ColumnSumsOptions,
): void {
  const { scale, reduce, accumulate = false, range, mask = null, window = 0 } = options;
  const ranges = range === undefined ? NO_RANGES : Int32Array.from(range);
  const add = Number(accumulate);
  stream.run(op('column_sums'), out, q, lse, kv, scale, REDUCE[reduce], add, ranges, mask, window);
}

/** Options of {@link topk}. */
export interface TopkOptions {
  /** Scores to pick per row. */
  readonly k: number;
  /** The largest (default) or the smallest. */
  readonly largest?: boolean;
}

/**
 * Columns of the k best scores of each row, ascending. Of equal scores the one with the lower column wins. NaN fails
 * with `ERR_ACCEL_NAN`.
 * @param out int32 `[H, k]` @param scores float32 `[H, n]`
 */
export function topk(stream: Stream, out: Tensor, scores: Tensor, options: TopkOptions): void {
  stream.run(op('topk'), out, scores, options.k, Number(options.largest ?? true));
}

/**
 * `out[h, i] = x[h, index[h, i]]`: scores of the rows that {@link topk} chose. A column that does not exist fails on
 * the stream with `ERR_ACCEL_ARGUMENT`.
 * @param out float32 `[H, k]` @param x float32 `[H, n]` @param index int32 `[H, k]`
 * @throws AccelError `ERR_ACCEL_SHAPE`, `ERR_ACCEL_DTYPE`
 */
export function takeColumns(stream: Stream, out: Tensor, x: Tensor, index: Tensor): void {
  stream.run(op('take_columns'), out, x, index);
}

/**
 * Copies rows of one cache into another of the same geometry; `KvSequence.compact` is built on it.
 * @param rows int32 `[Hk, kmax]`, ascending per head @param counts rows of each head
 */
export function kvGather(
  stream: Stream,
  to: KvArg,
  from: KvArg,
  rows: Tensor,
  counts: Int32Array,
): void {
  stream.run(op('kv_gather'), to, from, rows, counts);
}

/**
 * Copies a cache layer out of its pages. Rows that a head does not have are 0, their positions −1. Keys or values of which
 * some are encoded are refused: the codec's own op reads those.
 * @param k `[Hk, n, d]` or null @param v `[Hk, n, d]` or null @param positions int32 `[Hk, n]` or null
 * @param kv one sequence
 */
export function kvRead(
  stream: Stream,
  k: Tensor | null,
  v: Tensor | null,
  positions: Tensor | null,
  kv: KvArg,
): void {
  stream.run(op('kv_read'), k, v, positions, kv);
}

/**
 * Draws one token per row. Filters in this order: temperature, top-k, top-p, min-p; then the inverse of the cumulative
 * distribution, most probable first, ties by index. Temperature 0 takes the largest logit, lowest index on ties.
 * @param out int32 `[B]` @param logits float32 `[B, V]` @param temperature float32 `[B]` @param topK int32 `[B]`, 0 off
 * @param topP float32 `[B]`, 1 off @param minP float32 `[B]`, 0 off @param uniform float64 `[B]`, in [0, 1)
 */
export function sample(
  stream: Stream,
  out: Tensor,
  logits: Tensor,
  temperature: Tensor,
  topK: Tensor,
  topP: Tensor,
  minP: Tensor,
  uniform: Tensor,
): void {
  stream.run(op('sample'), out, logits, temperature, topK, topP, minP, uniform);
}

/** `out[i] = x[rows[i]]`, any dtype. @param out `[R, …]` @param x `[T, …]` */
export function gatherRows(stream: Stream, out: Tensor, x: Tensor, rows: Int32Array): void {
  stream.run(op('gather_rows'), out, x, rows);
}

/** Converts between float dtypes, to the nearest, ties to even. Shapes are equal. */
export function cast(stream: Stream, out: Tensor, x: Tensor): void {
  stream.run(op('cast'), out, x);
}

/** `out = a + b`. Shapes are equal; `out` may be `a` or `b`. */
export function add(stream: Stream, out: Tensor, a: Tensor, b: Tensor): void {
  stream.run(op('add'), out, a, b);
}

/** How many elements are NaN or infinite. @param out int32 `[1]` @param x any float dtype */
export function countNonfinite(stream: Stream, out: Tensor, x: Tensor): void {
  stream.run(op('count_nonfinite'), out, x);
}

/**
 * Several linear layers of one input: `outs[i] = x · weights[i]ᵀ (+ biases[i])`, one to three of them. For few rows
 * this is one kernel, which matters in a decode step.
 * @param outs `[M, Ni]` @param x `[M, K]` @param weights `[Ni, K]` @param biases `[Ni]` or null, one for each weight
 */
export function linearGroup(
  stream: Stream,
  outs: readonly Tensor[],
  x: Tensor,
  weights: readonly Tensor[],
  biases: readonly (Tensor | null)[],
): void {
  const three = <T>(list: readonly (T | null)[]): [T | null, T | null, T | null] => [
    list[0] ?? null,
    list[1] ?? null,
    list[2] ?? null,
  ];
  stream.run(op('linear_group'), ...three(outs), x, ...three(weights), ...three(biases));
}

/**
 * The gate of a SwiGLU MLP: `out = silu(x · gateᵀ) · (x · upᵀ)`; both products are rounded to the dtype first.
 * @param out `[M, I]` @param x `[M, K]` @param gate `[I, K]` @param up `[I, K]`
 */
export function gatedLinear(
  stream: Stream,
  out: Tensor,
  x: Tensor,
  gate: Tensor,
  up: Tensor,
): void {
  stream.run(op('gated_linear'), out, x, gate, up);
}

/**
 * {@link rope} on queries and keys and {@link kvAppend}, in one pass: rotates `q` in place and writes the rotated keys,
 * the values and the positions into the last `lens[b]` rows of sequence b. `k` is left with undefined contents.
 * @param q `[T, Hq, d]` or null @param k `[T, Hk, d]` @param v `[T, Hk, d]` @param table of {@link ropeTable}
 * @param positions int32 `[T]` @param lens tokens of each sequence, sum T
 */
export function ropeAppend(
  stream: Stream,
  q: Tensor | null,
  k: Tensor,
  v: Tensor,
  kv: KvArg,
  table: Tensor,
  positions: Tensor,
  lens: Int32Array,
  interleaved = false,
): void {
  stream.run(op('rope_append'), q, k, v, kv, table, positions, lens, Number(interleaved));
}

/**
 * Writes the device's time, for durations of what runs on a stream between two calls: nothing waits.
 * @param out float64 `[1]`, seconds since some moment; a GPU's clock ticks about once a microsecond
 */
export function clock(stream: Stream, out: Tensor): void {
  stream.run(op('clock'), out);
}
