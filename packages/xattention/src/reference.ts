/**
 * The estimator and the choice of blocks in plain TypeScript and float64, to read and to test the kernels with.
 * Follows `kernels/xattention_blocks.cc` and `kernels/xattention_rule.h`.
 */
const BLOCK = 128;

/** Queries and keys of a prompt whose last `m` rows are queries; token major. */
export interface ReferenceCall {
  readonly q: ArrayLike<number>;
  readonly k: ArrayLike<number>;
  readonly m: number;
  readonly n: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly stride: number;
  /** Factor of the estimate's logits: softmax scale / (stride · norm). */
  readonly scale: number;
}

/** Block sums of the reduced softmax, `[heads, ⌈m / 128⌉, ⌈n / 128⌉]`. */
export function referenceSums(call: ReferenceCall): Float64Array {
  const { m, n, heads, stride, scale } = call;
  const perBlock = BLOCK / stride;
  const rowBlocks = Math.ceil(m / BLOCK);
  const columns = Math.ceil(n / BLOCK);
  const out = new Float64Array(heads * rowBlocks * columns);
  for (let head = 0; head < heads; head++) {
    for (let row = 0; row < Math.ceil(m / stride); row++) {
      const last = row + (n - m) / stride;
      const logits = Float64Array.from({ length: last + 1 }, (_, column) =>
        antidiagonal(call, head, row, column),
      );
      const top = logits.reduce((a, b) => Math.max(a, b), -Infinity);
      const terms = logits.map((x) => Math.exp((x - top) * scale));
      const total = terms.reduce((a, b) => a + b, 0);
      const first = (head * rowBlocks + Math.floor(row / perBlock)) * columns;
      for (const [column, term] of terms.entries()) {
        const at = first + Math.floor(column / perBlock);
        out[at] = (out[at] as number) + term / total;
      }
    }
  }
  return out;
}

/** Σₜ q[row S + S - 1 - t] · k[column S + t]; tokens behind the last are zeros. */
function antidiagonal(call: ReferenceCall, head: number, row: number, column: number): number {
  const { q, k, m, n, heads, kvHeads, headDim, stride } = call;
  const kvHead = Math.floor((head * kvHeads) / heads);
  let sum = 0;
  for (let t = 0; t < stride; t++) {
    const query = row * stride + stride - 1 - t;
    const key = column * stride + t;
    if (query >= m || key >= n) continue;
    const from = (query * heads + head) * headDim;
    const to = (key * kvHeads + kvHead) * headDim;
    for (let d = 0; d < headDim; d++) sum += (q[from + d] as number) * (k[to + d] as number);
  }
  return sum;
}

/** Blocks of a row, 0 or 1 for each column, and how near the closest decision was, as a share of the row. */
export interface ReferenceChoice {
  readonly chosen: Uint8Array;
  readonly margin: number;
}

/**
 * Chooses the blocks of one row.
 * @param sums of all columns; those behind the diagonal are ignored
 * @param firstChunk the published rule for the first chunk
 */
export function referenceRow(
  sums: ArrayLike<number>,
  diagonal: number,
  threshold: number,
  firstChunk = false,
): ReferenceChoice {
  const chosen = new Uint8Array(sums.length);
  const value = (column: number) => sums[column] as number;
  const past = Array.from({ length: diagonal + 1 }, (_, column) => column);
  const total = past.reduce((sum, column) => sum + value(column), 0);
  const required = threshold * total;
  const forced = new Set(firstChunk ? [diagonal] : [0, diagonal]);
  const others = past
    .filter((column) => !forced.has(column))
    .sort((a, b) => value(b) - value(a) || a - b);
  let held = [...forced].reduce((sum, column) => sum + value(column), 0);
  let margin = Math.abs(held - required);
  let taken = 0;
  while (taken < others.length && held < required) {
    held += value(others[taken++] as number);
    margin = Math.min(margin, Math.abs(held - required));
  }
  // Neighbours in the order, one of which is taken, decide too.
  if (firstChunk && required > 0) taken++;
  const [last, next] = [others[taken - 1], others[taken]];
  if (last !== undefined && next !== undefined)
    margin = Math.min(margin, value(last) - value(next));
  for (const column of [...forced, ...others.slice(0, taken), 0]) chosen[column] = 1;
  return { chosen, margin: total > 0 ? margin / total : 0 };
}
