import { MersenneTwister } from '../random/mersenne-twister.js';
import { meanOf } from './statistics.js';
import type { Interval } from './statistics.js';

/** What is known of a mean difference between two results of the same samples. */
export interface PairedResult {
  /** Mean over strata of their mean differences; NaN without pairs. */
  readonly difference: number;
  /** 95 % percentile bootstrap interval; null when a stratum has a single pair, which cannot be drawn anew. */
  readonly ci95: Interval | null;
  /** Two-sided, from a sign-flip permutation test; 1 when no pair differs. */
  readonly p: number;
  /** Whether all sign patterns were tried, or some drawn. */
  readonly exact: boolean;
}

/** How much is drawn, and from where. */
export interface PairedOptions {
  /** Default 10,000. */
  readonly draws?: number;
  /** 0 to 2^32 − 1. Default 42. */
  readonly seed?: number;
}

/** Up to so many pairs that differ, all 2^n patterns of signs are tried. */
const EXACT_PAIRS = 16;

/**
 * Tests whether paired differences have mean 0. Strata (a task at a length) count alike, however many pairs they hold,
 * as in the means that reports show.
 *
 * The test is Fisher's: if the two results of a sample could as well be exchanged, every pattern of signs of the
 * differences was equally likely; p is the share of patterns whose mean is at least as far from 0. The bootstrap draws
 * pairs within strata and corrects for their size (Davison and Hinkley, "Bootstrap Methods and their Application", 1997,
 * section 3.2). Of a handful of pairs it still tells little; p does not claim more than they can show.
 */
export function testPaired(
  strata: readonly (readonly number[])[],
  options: PairedOptions = {},
): PairedResult {
  const { draws = 10_000, seed = 42 } = options;
  const filled = strata.filter((differences) => differences.length > 0);
  const random = new MersenneTwister();
  random.seedWord(seed);
  const weighted = filled.flatMap((differences) =>
    differences.map((difference) => difference / differences.length / filled.length),
  );
  const moved = weighted.filter((difference) => difference !== 0);
  const exact = moved.length <= EXACT_PAIRS;
  return {
    difference: meanOf(filled.map(meanOf)),
    ci95: bootstrap(filled, draws, random),
    p: exact ? exactP(moved) : sampledP(moved, draws, random),
    exact,
  };
}

/** Share of all sign patterns whose sum is at least as far from 0 as the observed one. */
export function exactP(differences: readonly number[]): number {
  const patterns = 2 ** differences.length;
  const least = threshold(differences);
  let extreme = 0;
  for (let pattern = 0; pattern < patterns; pattern++) {
    const sum = differences.reduce(
      (total, difference, i) => total + ((pattern >>> i) & 1 ? difference : -difference),
      0,
    );
    if (Math.abs(sum) >= least) extreme++;
  }
  return extreme / patterns;
}

/** The same from drawn patterns. The observed one counts among them, so that p is never 0 and never too small. */
export function sampledP(
  differences: readonly number[],
  draws: number,
  random: MersenneTwister,
): number {
  const least = threshold(differences);
  // Flipping a sign takes away twice the difference: no branch that a processor could guess wrong half of the time.
  const doubled = Float64Array.from(differences, (difference) => 2 * difference);
  const total = differences.reduce((sum, difference) => sum + difference, 0);
  let extreme = 0;
  for (let draw = 0; draw < draws; draw++) {
    let bits = 0;
    let sum = 0;
    for (let i = 0; i < doubled.length; i++) {
      bits = i % 32 === 0 ? random.next() : bits >>> 1;
      sum += (bits & 1) * (doubled[i] ?? 0);
    }
    sum -= total;
    if (Math.abs(sum) >= least) extreme++;
  }
  return (1 + extreme) / (1 + draws);
}

/** Sums of the same numbers in another order may differ in their last bits and are still ties. */
function threshold(differences: readonly number[]): number {
  const sum = differences.reduce((total, difference) => total + difference, 0);
  const size = differences.reduce((total, difference) => total + Math.abs(difference), 0);
  return Math.abs(sum) - 1e-12 * size;
}

function bootstrap(
  strata: readonly (readonly number[])[],
  draws: number,
  random: MersenneTwister,
): Interval | null {
  if (strata.length === 0 || strata.some((differences) => differences.length < 2)) return null;
  const means = new Float64Array(draws);
  const sources = strata.map((differences) => ({
    values: Float64Array.from(differences),
    // A 32-bit word to an index; the bias of at most n/2³² is far below what draws can show.
    scale: differences.length / 2 ** 32,
    mean: meanOf(differences),
    // Means of n drawn values vary by a factor of (n − 1)/n too little, half of what they should for two.
    stretch: Math.sqrt(differences.length / (differences.length - 1)),
  }));
  for (let draw = 0; draw < draws; draw++) {
    let mean = 0;
    for (const { values, scale, mean: own, stretch } of sources) {
      let sum = 0;
      for (let i = 0; i < values.length; i++) {
        sum += values[Math.trunc(random.next() * scale)] ?? 0;
      }
      mean += (own + stretch * (sum / values.length - own)) / strata.length;
    }
    means[draw] = mean;
  }
  means.sort();
  return [quantile(means, 0.025), quantile(means, 0.975)];
}

/** Linear between order statistics. */
function quantile(sorted: Float64Array, share: number): number {
  const place = share * (sorted.length - 1);
  const low = sorted[Math.floor(place)] ?? NaN;
  const high = sorted[Math.ceil(place)] ?? NaN;
  return low + (high - low) * (place - Math.floor(place));
}

/**
 * Holm's step-down correction: p values to compare with a level that then holds for all of them together.
 *
 * @returns in the order of the input
 */
export function holm(values: readonly number[]): number[] {
  const order = values.map((p, index) => ({ p, index })).sort((a, b) => a.p - b.p);
  const corrected = new Array<number>(values.length).fill(1);
  let last = 0;
  for (const [rank, { p, index }] of order.entries()) {
    last = Math.max(last, Math.min(1, (values.length - rank) * p));
    corrected[index] = last;
  }
  return corrected;
}
