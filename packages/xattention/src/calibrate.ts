import { AccelError } from '@accel/core';

/** What one text says about one layer: estimate and truth for every block. */
export interface BlockSums {
  /** The estimate, `[heads, rowBlocks, columns]`: what `xattentionBlocks` writes to `sums`. */
  readonly sums: ArrayLike<number>;
  /** Attention of dense prefill that falls into each block, the same shape; rows need not sum to 1. */
  readonly mass: ArrayLike<number>;
  readonly heads: number;
  readonly rowBlocks: number;
  readonly columns: number;
  /** Diagonal column of row block 0. Default 0. */
  readonly offset?: number;
  /** Share of a row's attention that its blocks must hold. Default 0.9. */
  readonly coverage?: number;
}

/**
 * The threshold of every head with which, on this text, a row's blocks hold the share `coverage` of its attention, by the
 * authors' recipe. For each row: the fewest blocks that cover it, and the least estimate among them, the row's cut. Threshold:
 * the share of all estimates that lies in blocks not below their row's cut.
 *
 * @returns `[heads]`, each from 0 to 1
 * @throws AccelError `ERR_ACCEL_SHAPE`, `ERR_ACCEL_ARGUMENT`
 */
export function thresholdFromSums(text: BlockSums): Float64Array {
  const { sums, mass, heads, rowBlocks, columns, offset = 0, coverage = 0.9 } = text;
  const size = heads * rowBlocks * columns;
  if (sums.length !== size || mass.length !== size) {
    throw new AccelError(
      'ERR_ACCEL_SHAPE',
      `XAttention: ${heads} heads of ${rowBlocks} × ${columns} blocks are ${size} numbers, but sums has ${sums.length} and mass ${mass.length}.`,
    );
  }
  if (!(coverage > 0 && coverage <= 1)) {
    throw new AccelError(
      'ERR_ACCEL_ARGUMENT',
      `XAttention: coverage ${coverage} must be above 0 and at most 1.`,
    );
  }
  return Float64Array.from({ length: heads }, (_, head) => {
    let kept = 0;
    let total = 0;
    for (let row = 0; row < rowBlocks; row++) {
      const first = (head * rowBlocks + row) * columns;
      const count = Math.min(columns, row + offset + 1);
      const cut = cutOf(sums, mass, first, count, coverage);
      for (let at = first; at < first + count; at++) {
        const score = sums[at] as number;
        total += score;
        if (score >= cut) kept += score;
      }
    }
    return total > 0 ? Math.min(1, kept / total) : 1;
  });
}

/** The least estimate among the fewest blocks of a row that cover the share `coverage` of its attention. */
function cutOf(
  sums: ArrayLike<number>,
  mass: ArrayLike<number>,
  first: number,
  count: number,
  coverage: number,
): number {
  const order = Array.from({ length: count }, (_, column) => first + column);
  order.sort((a, b) => (mass[b] as number) - (mass[a] as number) || a - b);
  const total = order.reduce((sum, at) => sum + (mass[at] as number), 0);
  let covered = 0;
  let cut = Infinity;
  for (const at of order) {
    if (covered >= coverage * total) break;
    covered += mass[at] as number;
    cut = Math.min(cut, sums[at] as number);
  }
  return cut;
}

/**
 * Thresholds of one layer from several texts: for every head the largest that any text asks for.
 *
 * @throws AccelError as {@link thresholdFromSums}; `ERR_ACCEL_ARGUMENT` without a text
 */
export function calibrate(texts: Iterable<BlockSums>): Float64Array {
  let most: Float64Array | undefined;
  for (const text of texts) {
    const found = thresholdFromSums(text);
    if (most !== undefined && most.length !== found.length) {
      throw new AccelError(
        'ERR_ACCEL_SHAPE',
        `XAttention: texts with ${most.length} and with ${found.length} heads cannot be of one layer.`,
      );
    }
    most = most?.map((value, head) => Math.max(value, found[head] as number)) ?? found;
  }
  if (most === undefined) {
    throw new AccelError('ERR_ACCEL_ARGUMENT', 'XAttention: calibration needs at least one text.');
  }
  return most;
}
