/** What {@link referenceBlocks} reads: one sequence, token major, as the op does. */
export interface ReferenceInput {
  /** `[m, heads, dim]`, the last m of n positions. */
  readonly q: Float32Array;
  /** `[n, kvHeads, dim]`. */
  readonly k: Float32Array;
  readonly heads: number;
  readonly kvHeads: number;
  readonly dim: number;
  readonly scale: number;
  readonly gamma: number;
  readonly tau: number;
  readonly minBlocks: number;
  readonly maxBlocks: number;
  readonly block: number;
  readonly compat: boolean;
}

/** What a head chooses. */
export interface ReferenceHead {
  /** `[rows][columns]` */
  readonly mask: boolean[][];
  readonly counts: readonly [number, number];
  readonly numbers: readonly [number, number];
  readonly aware: boolean;
  readonly divergence: number;
  readonly vertical: number[];
  readonly slash: number[];
  readonly estimate: number[];
  /** How near the nearest decision is to falling the other way, relatively; float32 cannot be held to less. */
  readonly margin: number;
}

/**
 * FlexPrefill's choice of blocks in double precision, written for reading: the steps of `kernels/flexprefill.h` in
 * order, with sorts instead of searches. For tests.
 */
export function referenceBlocks(input: ReferenceInput): ReferenceHead[] {
  return Array.from({ length: input.heads }, (_, head) => referenceHead(input, head));
}

function referenceHead(input: ReferenceInput, head: number): ReferenceHead {
  const { heads, kvHeads, dim, scale, gamma, tau, block, minBlocks, maxBlocks, compat } = input;
  const m = input.q.length / (heads * dim);
  const n = input.k.length / (kvHeads * dim);
  const kvHead = Math.floor((head * kvHeads) / heads);
  const query = (i: number) => row(input.q, i * heads + head, dim);
  const key = (j: number) => row(input.k, j * kvHeads + kvHead, dim);
  const columns = Math.ceil(n / block);
  const rows = Math.ceil(m / block);
  const observed = Math.min(block, m);
  let margin = 1;
  const near = (distance: number) => (margin = Math.min(margin, Math.abs(distance)));

  // 1, 2: attention of the last queries, summed over columns and over diagonals.
  const v = new Array<number>(n).fill(0);
  const w = new Array<number>(n).fill(0);
  for (let r = 0; r < observed; r++) {
    const seen = n - observed + r + 1;
    const q = query(m - observed + r);
    const attention = softmax(range(seen).map((s) => scale * dot(q, key(s))));
    for (const [s, a] of attention.entries()) {
      v[s] = at(v, s) + a / observed;
      w[s - r + observed - 1] = at(w, s - r + observed - 1) + a / observed;
    }
  }

  // 3: how many entries make up gamma, the one that crosses it included; as blocks.
  const counted = [v, w].map((profile) => {
    const sorted = [...profile].sort((a, b) => b - a);
    let sum = 0;
    const count = sorted.findIndex((x) => (sum += x) > gamma);
    return 1 + (count < 0 ? n : count);
  }) as [number, number];
  const blocks = (count: number) =>
    Math.min(maxBlocks, columns, Math.max(minBlocks, Math.floor(count / 128) + 1));
  const numbers = counted.map(blocks) as [number, number];
  if (counted.some((count) => blocks(count - 2) !== blocks(count + 2))) near(0);

  // 4: does the mean query, with mean keys, predict the columns?
  const pool = (profile: number[]) =>
    range(columns).map((j) => sum(profile.slice(j * block, (j + 1) * block)));
  const [vertical, slash] = [pool(v), pool(w)];
  const meanKeys = range(columns).map((j) => mean(range(n, j * block, (j + 1) * block).map(key)));
  const meanQuery = mean(range(m, m - observed).map(query));
  const estimate = softmax(meanKeys.map((k) => scale * dot(meanQuery, k)));
  const term = (x: number, middle: number) => (x === 0 && !compat ? 0 : x * Math.log(x / middle));
  const divergence = Math.sqrt(
    0.5 *
      Math.max(
        0,
        sum(
          estimate.map((a, j) => {
            const middle = (a + at(vertical, j)) / 2;
            return term(a, middle) + term(at(vertical, j), middle);
          }),
        ),
      ),
  );
  const aware = divergence < tau;
  near((divergence - tau) / (tau || 1));
  if (aware) numbers.fill(Math.min(minBlocks, columns));

  // 5: the best columns and diagonals.
  const best = (profile: number[], forced: number, count: number): Set<number> => {
    const value = (j: number) => (j === forced ? Infinity : at(profile, j));
    const order = range(columns).sort((a, b) => value(b) - value(a) || a - b);
    if (count < columns && count > 1)
      near(1 - value(at(order, count)) / value(at(order, count - 1)));
    return new Set(order.slice(0, count));
  };
  const inColumns = best(vertical, 0, numbers[0]);
  const inDiagonals = best(slash, columns - 1, numbers[1]);
  const offset = (n - m) / block;
  const mask = range(rows).map((i) =>
    range(columns).map((j) => {
      const distance = offset + i - j;
      return distance >= 0 && (inColumns.has(j) || inDiagonals.has(columns - 1 - distance));
    }),
  );

  // 6: the largest predicted blocks whose sum stays within gamma, over all rows together.
  if (aware) {
    const entries = range(rows).flatMap((i) => {
      const q = mean(range(m, i * block, (i + 1) * block).map(query));
      const seen = meanKeys.slice(0, offset + i + 1);
      return softmax(seen.map((k) => scale * dot(q, k))).map((x, j) => ({ i, j, x }));
    });
    entries.sort((a, b) => b.x - a.x || a.i - b.i || a.j - b.j);
    let total = 0;
    for (const [index, { i, j, x }] of entries.entries()) {
      total += x;
      if (Math.abs(total / (gamma * rows) - 1) < 1e-5) near(0);
      if (total > gamma * rows) {
        near(1 - x / (entries[index - 1]?.x ?? Infinity));
        break;
      }
      (mask[i] as boolean[])[j] = true;
    }
  }
  return { mask, counts: counted, numbers, aware, divergence, vertical, slash, estimate, margin };
}

/** `begin` to `end - 1`, cut at `limit`; `range(limit)`: all below it. */
function range(limit: number, begin = 0, end = limit): number[] {
  return Array.from({ length: Math.min(end, limit) - begin }, (_, i) => begin + i);
}
function at(list: ArrayLike<number>, index: number): number {
  return list[index] as number;
}
function row(data: Float32Array, index: number, dim: number): Float32Array {
  return data.subarray(index * dim, (index + 1) * dim);
}
function sum(list: readonly number[]): number {
  return list.reduce((a, b) => a + b, 0);
}
function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let total = 0;
  for (let d = 0; d < a.length; d++) total += at(a, d) * at(b, d);
  return total;
}
function mean(vectors: readonly Float32Array[]): number[] {
  return Array.from(
    vectors[0] as Float32Array,
    (_, d) => sum(vectors.map((vector) => at(vector, d))) / vectors.length,
  );
}
function softmax(logits: readonly number[]): number[] {
  const most = logits.reduce((a, b) => Math.max(a, b));
  const weights = logits.map((x) => Math.exp(x - most));
  const total = sum(weights);
  return weights.map((x) => x / total);
}
