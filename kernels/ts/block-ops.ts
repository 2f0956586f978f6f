/**
 * The built-in ops that see attention as blocks of 128 queries × 128 rows, as sparse prefills do. `ops` has them too.
 *
 * A call has m queries, the newest of n rows. Row block i has queries `[128 i, 128 i + 128)`, column block j the rows
 * `[128 j, 128 j + 128)`; the last of either may be shorter. RB = ⌈m / 128⌉, C = ⌈n / 128⌉.
 */
import { op } from './builtin-op.js';
import type { KvArg } from './kv-arg.js';
import type { Stream } from './stream.js';
import type { Tensor } from './tensor.js';

/** Options of {@link blockMass}. */
export interface BlockMassOptions {
  /** Factor of the logits, usually 1/√d. */
  readonly scale: number;
  /** The sliding window of the attention that `lse` comes from, in positions. Default 0, no limit. */
  readonly window?: number;
}

/**
 * How much of the attention of a row block lies in each column block: the mean over its queries t of the sum over rows
 * s ≤ n − m + t of `exp(scale · qₜ·kₛ − lse[t])`. With the lse of causal {@link attention} each row of blocks sums to 1.
 * n − m need not be a multiple of 128.
 * @param out float32 `[Hq, RB, C]`; 0 beyond the diagonal and outside the window
 * @param q `[m, Hq, d]` @param kv one sequence whose heads all have n rows @param lse float32 `[m, Hq]`
 * @throws AccelError `ERR_ACCEL_SHAPE`, `ERR_ACCEL_DTYPE`
 */
export function blockMass(
  stream: Stream,
  out: Tensor,
  q: Tensor,
  kv: KvArg,
  lse: Tensor,
  options: BlockMassOptions,
): void {
  stream.run(op('block_mass'), out, q, kv, lse, options.scale, options.window ?? 0);
}

/** Options of {@link blockSparseAttention}. */
export interface BlockSparseOptions {
  /** Factor of the logits, usually 1/√d. */
  readonly scale: number;
  /**
   * Which blocks are computed, int32 `[R, Hq, W]`: bit `j % 32` of word `j / 32` of row block r says whether column j is.
   * The queries of each sequence are cut into blocks of 128, R in all, numbered through the batch; columns are blocks of
   * 128 cached rows. The block on the diagonal is computed whatever its bit says; bits beyond it mean nothing.
   */
  readonly mask: Tensor;
  /**
   * The model's sliding window in positions, as for `attention`: a query sees the rows of its computed blocks that are
   * in it. Blocks outside the window of all their queries are not computed. Default 0, no limit.
   */
  readonly window?: number;
  /** int32 `[B, Hq]`: the number of blocks computed is added to it. Default none. */
  readonly counts?: Tensor;
}

/**
 * Causal softmax attention of packed queries over chosen blocks of cached rows, each query head by itself: a query sees
 * the rows of its computed blocks up to its own. Only those are read, and time falls with their number.
 *
 * All kv heads of a sequence have equally many rows, and the rows before a sequence's queries are a multiple of 128.
 * @param out `[T, Hq, d]` @param lse float32 `[T, Hq]` or null: natural log of the sum of exp(scaled logits) over visible rows
 * @param q `[T, Hq, d]` @param lens queries of each sequence, sum T
 */
export function blockSparseAttention(
  stream: Stream,
  out: Tensor,
  lse: Tensor | null,
  q: Tensor,
  kv: KvArg,
  lens: Int32Array,
  options: BlockSparseOptions,
): void {
  const { scale, mask, counts = null, window = 0 } = options;
  stream.run(op('block_sparse_attention'), out, lse, counts, q, kv, lens, mask, scale, window);
}
