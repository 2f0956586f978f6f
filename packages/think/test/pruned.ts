import { Tensor, type DType } from '@accel/kernels';
import { generated, type TestCache } from '@accel/testkit';
import { ThinkHarness, type StreamShape } from './harness.js';

/** A prompt that is pruned, and queries to it. */
export interface Given extends Required<Pick<StreamShape, 'heads' | 'kvHeads' | 'dim' | 'dtype'>> {
  readonly rows: number;
  readonly recent: number;
  readonly ratio: number;
  /** Queries. */
  readonly m: number;
  /** Rows of a page. */
  readonly pageRows: number;
  readonly seed: number;
  /** Rows that leave each head before its keys are pruned, others in each. Default 0. */
  readonly gone?: number;
}

/** How near outputs must be, by the format of weights and outputs. */
export const EXACT: Readonly<Partial<Record<DType, number>>> = {
  float32: 2e-5,
  float16: 4e-3,
  bfloat16: 3e-2,
};

/** Numbers that all formats hold exactly. */
export function exact(seed: number, count: number, scale = 1): Float32Array {
  return generated(seed, count).map((x) => (Math.round(x * 32) / 32) * scale);
}

/** A harness with `rows` rows, pruned; keys and values are token-major. */
export function pruned(
  device: string,
  given: Given,
): { harness: ThinkHarness; k: Float32Array; v: Float32Array; q: Float32Array } {
  const { heads, kvHeads, dim, dtype, rows, recent, ratio, m, pageRows, seed, gone = 0 } = given;
  const pageBytes = Math.ceil((pageRows * dim * (dtype === 'float32' ? 4 : 2)) / 64) * 64;
  const harness = new ThinkHarness(
    device,
    { heads, kvHeads, dim, dtype, pageBytes },
    { ratio, recent },
  );
  const k = exact(seed, rows * kvHeads * dim, 2);
  const v = exact(seed + 1, rows * kvHeads * dim);
  harness.cache.append(k, v, 0);
  if (gone > 0) leave(harness.cache, gone, seed);
  harness.observe(exact(seed + 2, Math.min(8, rows) * heads * dim));
  harness.prune();
  return { harness, k, v, q: exact(seed + 3, m * heads * dim) };
}

/** `gone` rows leave each head of a cache, others in each. */
export function leave({ device, heads, kv }: TestCache, gone: number, seed: number): void {
  const rows = kv.rows(0, 0);
  const kept = Array.from({ length: heads }, (_, head) => {
    const order = generated(seed + head + 50, rows);
    return Array.from(order.keys())
      .sort((a, b) => (order[a] ?? 0) - (order[b] ?? 0))
      .slice(gone)
      .sort((a, b) => a - b);
  });
  using index = Tensor.from(device, Int32Array.from(kept.flat()), [heads, rows - gone]);
  kv.compact(
    0,
    index,
    kept.map(({ length }) => length),
  );
}

/** Row `row` of head `head`, of token-major data. */
export function rowOf(
  data: Float32Array,
  heads: number,
  dim: number,
  row: number,
  head: number,
): number[] {
  const at = (row * heads + head) * dim;
  return [...data.subarray(at, at + dim)];
}
