/**
 * The built-in ops for rows that are evicted while decoding: numbers that follow a row (`KvShape.tallies`), and rows
 * that leave in place. `ops` has them too.
 */
import { NO_RANGES, op } from './builtin-op.js';
import type { KvArg } from './kv-arg.js';
import type { Stream } from './stream.js';
import type { Tensor } from './tensor.js';

/** How the query heads of a group become one number of their key-value head; `first` takes the first one's. */
export type HeadReduce = 'mean' | 'max' | 'sum' | 'first';

const HEAD_REDUCE: Readonly<Record<HeadReduce, number>> = { mean: 1, max: 2, sum: 3, first: 4 };

/**
 * `tally[h, j] += sums[h, j]`: the column sums of a prompt go into the rows. Pages must not be shared with a fork
 * ({@link KvSequence.own}).
 * @param kv one sequence
 * @param sums float32 `[Hs, m]`, m at least every head's rows. Hs is Hk, then they are added as they are, or Hq, then
 * those of a group become one number
 * @param tally which of the numbers of a row, from 0 @param reduce for Hs = Hq
 * @throws AccelError `ERR_ACCEL_SHAPE`, `ERR_ACCEL_DTYPE`; `ERR_ACCEL_ARGUMENT` when rows have no such tally
 */
export function tallyAdd(
  stream: Stream,
  kv: KvArg,
  sums: Tensor,
  tally: number,
  reduce: HeadReduce,
): void {
  stream.run(op('tally_add'), kv, sums, tally, HEAD_REDUCE[reduce]);
}

/** Options of {@link tallyStep}. */
export interface TallyStepOptions {
  /** Factor of the logits, usually 1/√d. */
  readonly scale: number;
  /** Which of the numbers of a row, from 0. */
  readonly tally: number;
  readonly reduce: HeadReduce;
  /** Adds the probabilities to the tally (true) or replaces it by them. */
  readonly accumulate: boolean;
  /** `[begin, end)` for each sequence: other rows' tallies stay as they are. Default all. */
  readonly ranges?: Int32Array;
  /**
   * The sliding window of the attention that `lse` comes from, in positions; the query is that of the last row. Rows
   * outside it receive 0. Default 0, no limit.
   */
  readonly window?: number;
}

/**
 * What every row received from the query of a decode step: exp(logit − lse), of the heads of a group as one number. No
 * row is masked but by the window. Pages must not be shared with a fork ({@link KvSequence.own}).
 * @param kv B sequences @param q `[B, Hq, d]` @param lse float32 `[B, Hq]` of `attention`
 * @throws AccelError `ERR_ACCEL_SHAPE`, `ERR_ACCEL_DTYPE`; `ERR_ACCEL_ARGUMENT` when rows have no such tally
 */
export function tallyStep(
  stream: Stream,
  kv: KvArg,
  q: Tensor,
  lse: Tensor,
  options: TallyStepOptions,
): void {
  const { scale, tally, reduce, accumulate, ranges = NO_RANGES, window = 0 } = options;
  stream.run(
    op('tally_step'),
    kv,
    q,
    lse,
    scale,
    tally,
    HEAD_REDUCE[reduce],
    Number(accumulate),
    ranges,
    window,
  );
}

/** Options of {@link tallyRead}. */
export interface TallyReadOptions {
  /** Oldest rows that read as +∞. Default 0. */
  readonly first?: number;
  /** Newest rows that read as +∞. Default 0. */
  readonly last?: number;
}

/**
 * Copies a tally out of the rows. Those that must stay whatever they received can be read as +∞.
 * @param out float32 `[Hk, n]` @param kv one sequence whose heads all have n rows
 * @param tally which of the numbers of a row, from 0
 * @throws AccelError `ERR_ACCEL_SHAPE`, `ERR_ACCEL_DTYPE`; `ERR_ACCEL_ARGUMENT` when rows have no such tally
 */
export function tallyRead(
  stream: Stream,
  out: Tensor,
  kv: KvArg,
  tally: number,
  options: TallyReadOptions = {},
): void {
  stream.run(op('tally_read'), out, kv, tally, options.first ?? 0, options.last ?? 0);
}

/**
 * Sets a tally of every row. Pages must not be shared with a fork ({@link KvSequence.own}).
 * @param kv one sequence whose heads all have n rows @param values float32 `[Hk, n]`
 * @param tally which of the numbers of a row, from 0
 * @throws AccelError `ERR_ACCEL_SHAPE`, `ERR_ACCEL_DTYPE`; `ERR_ACCEL_ARGUMENT` when rows have no such tally
 */
export function tallyWrite(stream: Stream, kv: KvArg, values: Tensor, tally: number): void {
  stream.run(op('tally_write'), kv, values, tally);
}

/**
 * Takes one row out of each head in place: the rows between it and the newest `keep` move down by one, with positions
 * and tallies. The row in front of the newest `keep` is stale afterwards, in every head, and still there; `KvSequence.drop`
 * makes it leave: `kv.drop(layer, rows - 1 - keep, 1)`. Pages must not be shared with a fork ({@link KvSequence.own}).
 * @param kv one sequence
 * @param victims int32 `[Hk]`: a row of each head, below its rows − keep; another one fails on the stream with
 * `ERR_ACCEL_ARGUMENT`
 * @param keep newest rows that do not move
 * @throws AccelError `ERR_ACCEL_SHAPE`, `ERR_ACCEL_DTYPE`; `ERR_ACCEL_ARGUMENT` when a head has no row to give
 */
export function kvRemove(stream: Stream, kv: KvArg, victims: Tensor, keep: number): void {
  stream.run(op('kv_remove'), kv, victims, keep);
}
