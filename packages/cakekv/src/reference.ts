/** Attention of the last queries of a prompt, to compute statistics of. Lists are head-major. */
export interface ReferenceInput {
  /** `[heads, queries, dim]` */
  readonly queries: ArrayLike<number>;
  /** `[kvHeads, rows, dim]` */
  readonly keys: ArrayLike<number>;
  readonly heads: number;
  readonly kvHeads: number;
  readonly dim: number;
  readonly scale: number;
  readonly gamma: number;
  /** Newest rows left out. */
  readonly window: number;
  /** Original positions of the rows, `[kvHeads][rows]`, and how many of them a query sees. Default: it sees all. */
  readonly sliding?: {
    readonly positions: readonly (readonly number[])[];
    readonly window: number;
  };
}

/** What {@link referenceStatistics} returns. */
export interface ReferenceStatistics {
  /** `[kvHeads, rows]` */
  readonly indicator: Float64Array;
  readonly dispersion: number;
  readonly shift: number;
}

/**
 * `cake_statistics` in plain TypeScript and float64, to read and to test the kernel with.
 *
 * p is the causal softmax of the queries over all rows. A row's indicator is mean + gamma · unbiased variance of its
 * column of p, averaged over the query heads of its kv head; dispersion is −Σ p ln(p + 1e-10), shift Σ variance, both
 * over all query heads and all rows before the window.
 */
export function referenceStatistics(input: ReferenceInput): ReferenceStatistics {
  const { queries, keys, heads, kvHeads, dim, scale, gamma, window, sliding } = input;
  const count = queries.length / (heads * dim);
  const rows = keys.length / (kvHeads * dim);
  const group = heads / kvHeads;
  const columns = Math.max(0, rows - window);
  const indicator = new Float64Array(kvHeads * rows);
  let dispersion = 0;
  let shift = 0;
  for (let head = 0; head < heads; head++) {
    const kvHead = Math.floor(head / group);
    const p = Array.from({ length: count }, (_, i) =>
      softmax(rows, (j) => {
        const own = rows - count + i;
        if (j > own) return -Infinity;
        const at = sliding?.positions[kvHead] ?? [];
        if (sliding !== undefined && (at[own] ?? 0) - (at[j] ?? 0) >= sliding.window)
          return -Infinity;
        let dot = 0;
        for (let c = 0; c < dim; c++) {
          dot +=
            (queries[(head * count + i) * dim + c] ?? 0) *
            (keys[(kvHead * rows + j) * dim + c] ?? 0);
        }
        return dot * scale;
      }),
    );
    for (let j = 0; j < columns; j++) {
      const column = p.map((row) => row[j] ?? 0);
      const mean = column.reduce((a, b) => a + b, 0) / count;
      const about = column.reduce((sum, x) => sum + (x - mean) ** 2, 0);
      const variance = count > 1 ? about / (count - 1) : 0;
      indicator[kvHead * rows + j] =
        (indicator[kvHead * rows + j] ?? 0) + (mean + gamma * variance) / group;
      shift += variance;
      for (const x of column) dispersion -= x * Math.log(x + 1e-10);
    }
  }
  return { indicator, dispersion, shift };
}

function softmax(length: number, logit: (j: number) => number): Float64Array {
  const x = Float64Array.from({ length }, (_, j) => logit(j));
  const top = x.reduce((a, b) => Math.max(a, b), -Infinity);
  const terms = x.map((value) => Math.exp(value - top));
  const sum = terms.reduce((a, b) => a + b, 0);
  return terms.map((term) => term / sum);
}

/**
 * `cake_pool` for one head: the average over `size` neighbours of a list, 0 beyond its ends, with the bits of the kernel:
 * sums are made in order and rounded to float32 after each addition.
 */
export function referencePool(scores: ArrayLike<number>, size: number): Float32Array {
  const reach = (size - 1) / 2;
  return Float32Array.from(scores, (_, at) => {
    let sum = 0;
    for (let j = Math.max(0, at - reach); j < Math.min(scores.length, at + reach + 1); j++)
      sum = Math.fround(sum + (scores[j] ?? 0));
    return sum / size;
  });
}

/** Places of a list by falling value, of equal values the lower place first. */
function ranking(values: ArrayLike<number>): number[] {
  const value = (i: number): number => values[i] ?? 0;
  return Array.from(values, (_, i) => i).sort((a, b) => value(b) - value(a) || a - b);
}

/** `cake_victim` for one head: the row before the window with the least pooled attention, of equal ones the newest. */
export function referenceVictim(
  attention: ArrayLike<number>,
  window: number,
  size: number,
): number {
  const past = Array.from(attention).slice(0, attention.length - window);
  return ranking(referencePool(past, size)).at(-1) ?? 0;
}

/**
 * `cake_order` for one head.
 * @param order what the rows before the window are ordered by so far, largest first, of equal ones the older first
 * @returns the new tally of these rows; the last in the new order has 1
 */
export function referenceOrder(
  attention: ArrayLike<number>,
  order: ArrayLike<number>,
  window: number,
  size: number,
): number[] {
  const count = attention.length - window;
  const stored = ranking(Array.from(order).slice(0, count));
  const pooled = referencePool(
    stored.map((row) => attention[row] ?? 0),
    size,
  );
  const tally = new Array<number>(count).fill(0);
  for (const [place, at] of ranking(pooled).entries()) tally[stored[at] ?? 0] = count - place;
  return tally;
}
