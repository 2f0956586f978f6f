import type { HeldRow } from './holed-cache.js';

/** Which rows of a head a query sees besides those that causality hides. */
export interface Sight {
  /** Positions; 0: no limit. */
  readonly window: number;
  /** Rows `[begin, end)`. */
  readonly range?: readonly [number, number];
  /** Whether blocks of 128 rows are computed. */
  readonly block?: (column: number) => boolean;
}

/** Whether the query whose own row is `own` sees row `j`: the definition, in original positions. */
export function sees(rows: readonly HeldRow[], own: number, j: number, sight: Sight): boolean {
  const distance = (rows[own]?.position ?? NaN) - (rows[j]?.position ?? NaN);
  if (j > own || (sight.window > 0 && distance >= sight.window)) return false;
  if (sight.range !== undefined && (j < sight.range[0] || j >= sight.range[1])) return false;
  const column = Math.floor(j / 128);
  return sight.block === undefined || column === Math.floor(own / 128) || sight.block(column);
}

/** What a query pays to every row of its head, in double precision, and the log of the sum of exp of its logits. */
export interface Paid {
  readonly weights: readonly number[];
  readonly lse: number;
}

/** Attention of one query; weights are 0 and lse is −∞ when nothing is visible. */
export function pay(
  q: Float32Array,
  rows: readonly HeldRow[],
  own: number,
  scale: number,
  sight: Sight,
): Paid {
  const logits = rows.map(({ k }, j) =>
    sees(rows, own, j, sight)
      ? scale * k.reduce((sum, x, c) => sum + x * (q[c] ?? NaN), 0)
      : -Infinity,
  );
  const most = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  if (most === -Infinity) return { weights: rows.map(() => 0), lse: -Infinity };
  const sum = logits.reduce((total, logit) => total + Math.exp(logit - most), 0);
  const lse = most + Math.log(sum);
  return { weights: logits.map((logit) => Math.exp(logit - lse)), lse };
}

/** The weighted sum of values. */
export function weighted(
  weights: readonly number[],
  rows: readonly HeldRow[],
  dim: number,
): number[] {
  const out = new Array<number>(dim).fill(0);
  for (const [j, weight] of weights.entries()) {
    if (weight === 0) continue;
    for (let c = 0; c < dim; c++) out[c] = (out[c] ?? 0) + weight * (rows[j]?.v[c] ?? NaN);
  }
  return out;
}
