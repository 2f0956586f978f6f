import { fileURLToPath } from 'node:url';
import {
  loadOpLibrary,
  type KvArg,
  type Op,
  type OpLibrary,
  type Stream,
  type Tensor,
} from '@accel/kernels';

/** The op library; the same path from `src` and from `dist`. */
export const LIBRARY: string = fileURLToPath(
  new URL('../build/Release/accel_cakekv.so', import.meta.url),
);
let library: OpLibrary | undefined;
const found = new Map<string, Op>();

function op(name: string): Op {
  let op = found.get(name);
  if (op === undefined) found.set(name, (op = (library ??= loadOpLibrary(LIBRARY)).op(name)));
  return op;
}

/** What {@link cakeStatistics} is to compute: at least one of the two. */
export interface StatisticsOut {
  /** float32 `[kvHeads, rows]`: mean + gamma · variance of each row's attention, mean over the group; 0 in the window. */
  readonly indicator?: Tensor;
  /** float64 `[2]`: dispersion and shift of the layer. */
  readonly sums?: Tensor;
}

/** Options of {@link cakeStatistics}. */
export interface StatisticsOptions {
  /** Factor of the logits. */
  readonly scale: number;
  /** Weight of the variance in the indicator. Default 0. */
  readonly gamma?: number;
  /** Newest rows left out, at least as many as there are queries. */
  readonly window: number;
  /** The model's sliding window in positions. Default 0, no limit. */
  readonly slidingWindow?: number;
}

/**
 * Statistics of the attention that the last queries pay to the rows before the window: `kernels/statistics.cc`. Enqueues.
 * @param queries `[w, heads, headDim]` @param kv one sequence whose heads have equally many rows
 */
export function cakeStatistics(
  stream: Stream,
  out: StatisticsOut,
  queries: Tensor,
  kv: KvArg,
  { scale, gamma = 0, window, slidingWindow = 0 }: StatisticsOptions,
): void {
  const { indicator = null, sums = null } = out;
  stream.run(
    op('cake_statistics'),
    indicator,
    sums,
    queries,
    kv,
    scale,
    gamma,
    window,
    slidingWindow,
  );
}

/**
 * Averages scores over `size` neighbouring columns before `prefix`; `rest` in the others: `kernels/pool.cc`. Enqueues.
 * @param out float32 `[heads, rows]` @param scores float32 `[heads, rows]`
 */
export function cakePool(
  stream: Stream,
  out: Tensor,
  scores: Tensor,
  options: { readonly prefix: number; readonly size: number; readonly rest: number },
): void {
  stream.run(op('cake_pool'), out, scores, options.prefix, options.size, options.rest);
}

/** Where {@link cakeVictim} and {@link cakeOrder} look. */
export interface EvictOptions {
  /** Tally with the attention that each row received last. */
  readonly attention: number;
  /** Newest rows that stay. */
  readonly window: number;
  /** Neighbours that attention is averaged over. */
  readonly size: number;
}

/**
 * The row of each head that leaves in a decode step, neighbours by position: `kernels/evict.cc`. Enqueues.
 * @param victims int32 `[kvHeads]`
 */
export function cakeVictim(
  stream: Stream,
  victims: Tensor,
  kv: KvArg,
  options: EvictOptions,
): void {
  const { attention, window, size } = options;
  stream.run(op('cake_victim'), victims, kv, attention, window, size);
}

/**
 * Orders the rows before the window anew by their attention, neighbours in the order so far, which the tally `order` has,
 * and writes that tally, best row largest: `kernels/evict.cc`. Enqueues. Pages must be the sequence's own.
 * @param out int32 `[kvHeads]` with the last row of each head, float32 `[kvHeads, rows]` with the new tally and +∞ in the
 *   window, or both
 */
export function cakeOrder(
  stream: Stream,
  out: { readonly victims?: Tensor; readonly scores?: Tensor },
  kv: KvArg,
  options: EvictOptions & { readonly order: number },
): void {
  const { attention, order, window, size } = options;
  const { victims = null, scores = null } = out;
  stream.run(op('cake_order'), victims, scores, kv, attention, order, window, size);
}
