import { fileURLToPath } from 'node:url';
import {
  loadOpLibrary,
  type KvArg,
  type Op,
  type OpLibrary,
  type Stream,
  type Tensor,
} from '@accel/kernels';
import type { Stride } from './settings.js';

/** The op library of this package; the same path from `src` and from `dist`. */
export const LIBRARY: string = fileURLToPath(
  new URL('../build/Release/accel_xattention.so', import.meta.url),
);
let library: OpLibrary | undefined;
const ops = new Map<string, Op>();

function op(name: string): Op {
  let found = ops.get(name);
  if (found === undefined) {
    library ??= loadOpLibrary(LIBRARY);
    ops.set(name, (found = library.op(name)));
  }
  return found;
}

/** Options of {@link xattentionBlocks}. */
export interface BlocksOptions {
  readonly stride: Stride;
  /** Factor of the attention's logits, usually 1/√d. */
  readonly scale: number;
  /** Another divisor of the estimate's logits. Default 1. */
  readonly norm?: number;
  /** float64 `[heads]`, each from 0 to 1: the share of a row's estimate that its blocks hold. */
  readonly thresholds: Tensor;
  /** Row blocks of the sequence that follow the published rule for the first chunk. Default 0. */
  readonly first?: number;
  /** float32 `[heads, ⌈m / 128⌉, ⌈n / 128⌉]`, to be filled with the estimate; a complete row sums to 128 / stride. */
  readonly sums?: Tensor;
}

/**
 * Estimates where the attention of the newest m of n rows is and chooses blocks: the op of `kernels/xattention_blocks.cc`.
 * Enqueues and returns.
 *
 * @param mask int32 `[⌈m / 128⌉, heads, ⌈n / 4096⌉]`
 * @param figures float32 `[heads, 2]`: share of the estimate in the mask, mean and minimum over row blocks
 * @param q `[m, heads, headDim]`, rotated
 * @param kv one sequence of n rows; n - m is a multiple of 128
 * @throws AccelError `ERR_ACCEL_ARGUMENT`, `ERR_ACCEL_SHAPE`, `ERR_ACCEL_DTYPE`
 */
export function xattentionBlocks(
  stream: Stream,
  mask: Tensor,
  figures: Tensor,
  q: Tensor,
  kv: KvArg,
  { stride, scale, norm = 1, thresholds, first = 0, sums }: BlocksOptions,
): void {
  const factor = scale / (stride * norm);
  const inputs = [q, kv, thresholds, stride, factor, first] as const;
  stream.run(op('xattention_blocks'), mask, figures, sums ?? null, ...inputs);
}

/**
 * The choice alone, row by row from sums that are given: the op of `kernels/xattention_select.cc`. For tests and inspection.
 *
 * @param mask int32 `[rows, ⌈columns / 32⌉]` @param recall float32 `[rows]` @param sums float32 `[rows, columns]`
 * @param thresholds float64 `[rows]` @param rules int32 `[rows, 2]`: diagonal column, 1 for a row of the first chunk
 */
export function xattentionSelect(
  stream: Stream,
  mask: Tensor,
  recall: Tensor,
  sums: Tensor,
  thresholds: Tensor,
  rules: Tensor,
): void {
  stream.run(op('xattention_select'), mask, recall, sums, thresholds, rules);
}
