import { fromBfloat16, toBfloat16 } from '../../ts/index.js';

/** Sizes of queries and keys: `q[queries, kvHeads · group, dim]` and `k[rows, kvHeads, dim]`. */
export interface PlainShape {
  readonly kvHeads: number;
  readonly group: number;
  readonly dim: number;
}

/** What the values become when they are stored as `dtype`. */
export function stored(data: Float32Array, dtype: 'float32' | 'bfloat16'): Float32Array {
  return dtype === 'float32' ? data : fromBfloat16(toBfloat16(data));
}

/**
 * Attention probabilities in double precision: `[query][query head][row]`, query i of m over n rows sees rows up to
 * n − m + i.
 */
export function probabilities(
  q: Float32Array,
  k: Float32Array,
  { kvHeads, group, dim }: PlainShape,
): number[][][] {
  const heads = kvHeads * group;
  const queries = q.length / (heads * dim);
  const rows = k.length / (kvHeads * dim);
  return Array.from({ length: queries }, (_, i) =>
    Array.from({ length: heads }, (_, h) => {
      const logits = Array.from({ length: rows }, (_, j) => {
        if (j > rows - queries + i) return -Infinity;
        const from = (i * heads + h) * dim;
        const to = (j * kvHeads + Math.floor(h / group)) * dim;
        let dot = 0;
        for (let c = 0; c < dim; c++) dot += (q[from + c] ?? 0) * (k[to + c] ?? 0);
        return dot / Math.sqrt(dim);
      });
      const most = Math.max(...logits);
      const weights = logits.map((logit) => Math.exp(logit - most));
      const sum = weights.reduce((a, b) => a + b, 0);
      return weights.map((weight) => weight / sum);
    }),
  );
}

/** Numbers of query heads `[kvHeads · group][rows]` as one for each kv head. */
export function reduceHeads(
  heads: readonly (readonly number[])[],
  group: number,
  reduce: 'none' | 'mean' | 'max' | 'sum' | 'first',
): number[][] {
  if (reduce === 'none') return heads.map((row) => [...row]);
  return Array.from({ length: heads.length / group }, (_, h) => {
    const of = heads.slice(h * group, (h + 1) * group);
    return Array.from({ length: of[0]?.length ?? 0 }, (_, j) => {
      const column = of.map((row) => row[j] ?? NaN);
      if (reduce === 'max') return Math.max(...column);
      if (reduce === 'first') return column[0] ?? NaN;
      const sum = column.reduce((a, b) => a + b, 0);
      return reduce === 'mean' ? sum / group : sum;
    });
  });
}
