import { AccelError } from '@accel/kernels';

/** How many rows a head keeps: a number, or a share of the rows there are. Never a share that is removed. */
export type Budget = { readonly tokens: number } | { readonly keep: number };

/** Demands on a budget that come from other options of the method. */
export interface BudgetLimits {
  /** Rows that are kept in any case, for example sink + recent. Default 1. */
  readonly minimum?: number;
  /** What these rows are, for the message: `'sink 4 + recent 508'`. */
  readonly reason?: string;
}

/**
 * Checks a budget.
 * @returns the budget, frozen
 * @throws AccelError `ERR_ACCEL_BUDGET` for anything but `{ tokens: whole number ≥ minimum }` or `{ keep: (0, 1] }`
 */
export function budget(value: Budget, limits: BudgetLimits = {}): Budget {
  const { minimum = 1, reason } = limits;
  const { tokens, keep, ...rest } = value as { tokens?: unknown; keep?: unknown };
  if ((tokens === undefined) === (keep === undefined) || Object.keys(rest).length > 0) {
    throw bad(`is ${JSON.stringify(value)}`, 'Give either { tokens: n } or { keep: share }.');
  }
  if (tokens !== undefined) {
    if (typeof tokens !== 'number' || !Number.isSafeInteger(tokens) || tokens < 1) {
      throw bad(`keeps ${shown(tokens)} tokens`, 'Give a whole number of at least 1.');
    }
    if (tokens < minimum) {
      throw bad(
        `of ${tokens} tokens is smaller than the ${minimum} that are always kept${reason === undefined ? '' : ` (${reason})`}`,
        `Give at least ${minimum}, or make those smaller.`,
      );
    }
    return Object.freeze({ tokens });
  }
  if (typeof keep !== 'number' || !(keep > 0 && keep <= 1)) {
    throw bad(`keeps the share ${shown(keep)}`, 'Give a number above 0 and up to 1.');
  }
  return Object.freeze({ keep });
}

/**
 * Rows that a budget keeps of `rows`, at least 1 and at most `rows`.
 *
 * A share is multiplied in double precision and then rounded, `trunc(rows · keep)`; with `'ceil'` as L2Compress does
 * it. A method whose paper gives the removed share r passes `{ keep: 1 - r }`, which is its own `trunc(rows · (1 − r))`.
 */
export function resolveBudget(
  value: Budget,
  rows: number,
  rounding: 'trunc' | 'ceil' = 'trunc',
): number {
  if (!Number.isSafeInteger(rows) || rows < 1) {
    throw new AccelError(
      'ERR_ACCEL_ARGUMENT',
      `A budget of ${rows} rows has no meaning; rows must be at least 1.`,
    );
  }
  const kept = 'tokens' in value ? value.tokens : Math[rounding](rows * value.keep);
  return Math.min(rows, Math.max(1, kept));
}

function shown(value: unknown): string {
  return typeof value === 'number' ? String(value) : JSON.stringify(value);
}

function bad(problem: string, advice: string): AccelError {
  return new AccelError('ERR_ACCEL_BUDGET', `The budget ${problem}. ${advice}`);
}
