import { expect } from 'vitest';

/** How near a result must be: identical, or |got - want| <= abs + rel · |want|. */
export type Tolerance = 'exact' | 'exact bits' | { readonly abs: number; readonly rel: number };

/** Scores in float32 (specs: §9.8 of the eviction page). */
export const SCORES: Tolerance = { abs: 1e-6, rel: 1e-4 };
/** Attention outputs in float32. */
export const OUTPUTS: Tolerance = { abs: 1e-4, rel: 1e-4 };

/**
 * Fails with the worst element if any is farther from `want` than the tolerance allows. Equal infinities agree; a NaN
 * never does.
 */
export function expectClose(
  got: ArrayLike<number>,
  want: ArrayLike<number>,
  tolerance: Tolerance,
  label: string,
): void {
  expect(got.length, `${label}: number of elements`).toBe(want.length);
  const { abs, rel } = typeof tolerance === 'string' ? { abs: 0, rel: 0 } : tolerance;
  let worst = -1;
  let excess = 0;
  for (let i = 0; i < want.length; i++) {
    const w = want[i] as number;
    const g = got[i] as number;
    if (Object.is(g, w) || g === w) continue;
    const over = Math.abs(g - w) - (abs + rel * Math.abs(w));
    if (!(over <= excess)) {
      worst = i;
      excess = Number.isNaN(over) ? Infinity : over;
    }
  }
  if (worst < 0) return;
  expect.fail(
    `${label}: element ${worst} is ${String(got[worst])}, expected ${String(want[worst])} (tolerance ${abs} + ${rel}·|want|)`,
  );
}

/** Largest absolute difference of two equally long lists. */
export function maxDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let most = 0;
  for (let i = 0; i < a.length; i++)
    most = Math.max(most, Math.abs((a[i] as number) - (b[i] as number)));
  return most;
}
