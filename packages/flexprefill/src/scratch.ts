import { BLOCK, type ChoiceOutline } from '@accel/core';

/** The larger pieces that `work_of` of kernels/flexprefill.cu takes. */
export function scratchBytes(block: number, { spec, m, rows }: ChoiceOutline): readonly number[] {
  const { heads, kvHeads, headDim } = spec;
  const rowBlocks = Math.ceil(m / block);
  const columns = Math.ceil(rows / block);
  const tiles = Math.ceil(rows / BLOCK);
  // 32 splits and more, of 32 tiles at most.
  const span = Math.min(32, Math.max(1, Math.floor(tiles / 32)));
  const profile = 4 * heads * tiles * BLOCK;
  return [
    8 * heads * Math.ceil(tiles / span) * BLOCK, // statistics
    profile, // vertical
    2 * profile, // diagonals
    profile, // slash
    4 * kvHeads * columns * headDim,
    4 * heads * rowBlocks * headDim,
    4 * heads * rowBlocks * columns, // entries
    12 * heads * columns, // pooled
  ];
}
