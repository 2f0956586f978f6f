import { BLOCK, type ChoiceOutline } from '@accel/core';
import { dtypeBytes } from '@accel/kernels';
import type { Stride } from './settings.js';

/** Block sums that are computed at a time: `kSumBytes` of kernels/xattention_blocks.cu. */
const SUM_BYTES = 64 * 2 ** 20;

/** What `Runner::run` of kernels/xattention_blocks.cu takes, piece by piece. */
export function scratchBytes(
  stride: Stride,
  { spec, dtype, m, rows }: ChoiceOutline,
): readonly number[] {
  const { heads, kvHeads, headDim } = spec;
  const row = headDim * dtypeBytes(dtype);
  const tiles = Math.ceil(Math.ceil(rows / stride) / BLOCK);
  const fit = Math.floor(SUM_BYTES / (heads * BLOCK * tiles * stride * 4));
  const slab = Math.min(Math.max(fit, 1), Math.ceil(Math.ceil(m / stride) / BLOCK)) * BLOCK;
  const tops = heads * slab * tiles * 4;
  return [
    kvHeads * stride * tiles * BLOCK * row, // keys, those of a residue together
    heads * stride * slab * row, // queries
    tops,
    tops * stride, // sums
    heads * ((slab * stride) / BLOCK) * Math.ceil(rows / BLOCK) * 4, // estimates
    heads * Math.ceil(m / BLOCK) * 8, // recall
  ];
}
