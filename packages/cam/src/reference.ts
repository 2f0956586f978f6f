import type { CamSettings } from './settings.js';

const MASK = (1n << 64n) - 1n;

/** One step of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014). */
function mix(state: bigint): bigint {
  let z = (state + 0x9e3779b97f4a7c15n) & MASK;
  z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK;
  z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & MASK;
  return z ^ (z >> 31n);
}

/** The random number of a row, in [0, 1), as the kernels draw it. */
export function referenceUniform(
  seed: number,
  layer: number,
  head: number,
  position: number,
): number {
  const where = mix(mix(BigInt(seed)) ^ ((BigInt(layer) << 32n) | BigInt(head)));
  return Number(mix(where ^ BigInt(position)) >> 40n) * 2 ** -24;
}

/** A ratio as a probability: 0/0 is 0, x/0 is 1. */
export function probability(ratio: number): number {
  return Number.isNaN(ratio) ? 0 : Math.min(1, Math.max(0, ratio));
}

/** Rows of one head in plain TypeScript. */
export interface ReferenceHead {
  /** Attention that each row received. */
  readonly scores: readonly number[];
  /** `[row][channel]`, changed in place. */
  readonly values: number[][];
}

/**
 * `cam_merge` for one head, in double precision: folds row `victim` if `u` is below the probability.
 * @returns the probability and whether it was folded
 */
export function referenceMerge(
  { scores, values }: ReferenceHead,
  victim: number,
  u: number,
  { targets, divisor, recent = Infinity }: Pick<CamSettings, 'targets' | 'divisor' | 'recent'>,
): { p: number; merged: boolean } {
  const rows = values.length;
  const first = Math.max(victim + 1, rows - recent);
  const end = Math.min(victim + 1 + targets, rows);
  const near = scores.slice(first, Math.max(first, end));
  if (near.length === 0) return { p: 0, merged: false };
  const mean = near.reduce((sum, score) => sum + score, 0) / near.length;
  const p = probability((scores[victim] ?? 0) / mean);
  if (!(u < p)) return { p, merged: false };
  const by = divisor === 'targets' ? targets : near.length;
  for (const target of values.slice(first, end)) {
    for (const [c, x] of (values[victim] ?? []).entries()) target[c] = (target[c] ?? 0) + x / by;
  }
  return { p, merged: true };
}

/** `cam_smear` for one head, in double precision, source after source. @param u one number for each row */
export function referenceSmear(
  { scores, values }: ReferenceHead,
  u: ArrayLike<number>,
  window: number,
  start: number,
  denominator: CamSettings['denominator'],
): { p: number[]; merged: boolean[] } {
  const rows = values.length;
  const p = new Array<number>(rows).fill(-1);
  const merged = new Array<boolean>(rows).fill(false);
  const before = Math.max(...scores.slice(0, start));
  for (let source = start; source < rows - window; source++) {
    const first = denominator === 'moving' ? source : rows - window;
    const most = Math.max(before, ...scores.slice(first, first + window));
    p[source] = probability((scores[source] ?? 0) / most);
    if (!((u[source] ?? 0) < (p[source] ?? 0))) continue;
    merged[source] = true;
    for (const target of values.slice(source + 1, source + 1 + window)) {
      for (const [c, x] of (values[source] ?? []).entries())
        target[c] = (target[c] ?? 0) + x / window;
    }
  }
  return { p, merged };
}
