/** A mean over values, or over strata, with its uncertainty. */
export interface Estimate {
  readonly mean: number;
  /** Standard error of the mean; null when a stratum has a single value. */
  readonly se: number | null;
  /** 95 % confidence interval; null where nothing can be said. */
  readonly ci95: Interval | null;
}

/** Lower and upper end. */
export type Interval = readonly [low: number, high: number];

/** Values that share a weight in an average: the records of one task at one length. */
export interface Stratum {
  /** Weights of an average add up to 1. */
  readonly weight: number;
  readonly values: readonly number[];
}

/** 97.5 % quantile of the normal distribution. */
const Z = 1.959963984540054;

/** Arithmetic mean; NaN of nothing. */
export function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/**
 * Weighted mean of strata means. The interval is Wilson's for scores from 0 to 100 and Student's otherwise.
 *
 * Wilson's takes the mean for a share of n successes. A mean of values between 0 and 100 varies at most as much as that,
 * so the interval is honest if wide, and it keeps a width where all values are equal, which s/√n does not.
 *
 * @returns null when a stratum is empty: a mean over the other strata would be about something else
 */
export function estimate(strata: readonly Stratum[], bounded: boolean): Estimate | null {
  if (strata.length === 0 || strata.some(({ values }) => values.length === 0)) return null;
  const mean = strata.reduce((sum, { weight, values }) => sum + weight * meanOf(values), 0);
  const known = strata.every(({ values }) => values.length > 1);
  const parts = strata.map(({ weight, values }) => ({
    variance: weight ** 2 * (variance(values) / values.length),
    freedom: values.length - 1,
  }));
  const total = parts.reduce((sum, part) => sum + part.variance, 0);
  const se = known ? Math.sqrt(total) : null;
  if (bounded) return { mean, se, ci95: wilson(mean, effectiveCount(strata)) };
  if (se === null) return { mean, se, ci95: null };
  const margin = tQuantile(degreesOfFreedom(parts, total)) * se;
  return { mean, se, ci95: [mean - margin, mean + margin] };
}

/**
 * Wilson's score interval for a mean score.
 *
 * @param score 0 to 100
 * @param n what the mean is over, at least 1; need not be whole
 */
export function wilson(score: number, n: number): Interval {
  const share = score / 100;
  const scale = 1 + Z ** 2 / n;
  const centre = (share + Z ** 2 / (2 * n)) / scale;
  const margin = (Z / scale) * Math.sqrt((share * (1 - share)) / n + Z ** 2 / (4 * n ** 2));
  return [Math.max(0, 100 * (centre - margin)), Math.min(100, 100 * (centre + margin))];
}

/** 97.5 % quantiles of Student's t distribution with 1 to 30 degrees of freedom. */
// prettier-ignore
const T_975 = [
  12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.306, 2.2622, 2.2281, 2.201, 2.1788, 2.1604, 2.1448, 2.1314,
  2.1199, 2.1098, 2.1009, 2.093, 2.086, 2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423,
];

/**
 * 97.5 % quantile of Student's t distribution: a table, then the expansion of Abramowitz and Stegun 26.7.5.
 *
 * @param freedom degrees of freedom, at least 1; rounded down in the table, which widens intervals
 */
export function tQuantile(freedom: number): number {
  const tabled = T_975[Math.floor(freedom) - 1];
  if (tabled !== undefined) return tabled;
  const first = (Z ** 3 + Z) / 4;
  const second = (5 * Z ** 5 + 16 * Z ** 3 + 3 * Z) / 96;
  return Z + first / freedom + second / freedom ** 2;
}

/** Values that a plain mean would need to vary as little as the weighted one does. */
function effectiveCount(strata: readonly Stratum[]): number {
  return 1 / strata.reduce((sum, { weight, values }) => sum + weight ** 2 / values.length, 0);
}

function variance(values: readonly number[]): number {
  if (values.length < 2) return 0;
  const mean = meanOf(values);
  return values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1);
}

/** Welch and Satterthwaite's. */
function degreesOfFreedom(
  parts: readonly { variance: number; freedom: number }[],
  total: number,
): number {
  if (total === 0) return parts.reduce((sum, { freedom }) => sum + freedom, 0);
  return total ** 2 / parts.reduce((sum, part) => sum + part.variance ** 2 / part.freedom, 0);
}
