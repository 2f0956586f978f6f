import { AccelError } from '@accel/core';

/** Draws one sample of a given size and measures it. */
export interface Draw<T> {
  readonly value: T;
  /** Tokens of the prompt, without the room for the answer. */
  readonly tokens: number;
}

/**
 * Work in steps: `undefined` after each drawn and measured prompt, which at 128K tokens takes a second, so that the
 * caller can let the event loop turn or stop.
 */
export type Steps<T> = Generator<undefined, T>;

/** What the length fit needs to know. */
export interface FitOptions<T> {
  /** Names the task in errors, e.g. `niah_single_2_4096`. */
  readonly label: string;
  /** Tokens a prompt may have with its answer. */
  readonly length: number;
  /** Tokens that come on top of every drawn prompt during the search (answer, worked example). */
  readonly reserve: number;
  /** Smallest haystack, and the amount it shrinks by when a sample overflows. */
  readonly step: number;
  /** Upper bound of the search as a multiple of the estimate. Default 3. */
  readonly slack?: number;
  /** Draws a haystack of `size` units. Consumes random numbers: every call counts. */
  readonly draw: (size: number) => Draw<T>;
}

/** Redraws at the smallest size before giving up; the original tries for ever. */
const MAX_REDRAWS = 100;

/**
 * Finds the largest haystack that fits, by binary search between `step` and `slack` × an estimate. Each probe draws
 * a fresh sample, so the search is part of the random stream and must be repeated exactly.
 */
export function* fitHaystack<T>(options: FitOptions<T>): Steps<number> {
  const { length, reserve, step } = options;
  const tokensPerUnit = options.draw(step).tokens / step;
  yield undefined;
  const estimate = Math.trunc((length / tokensPerUnit) * (options.slack ?? 3));
  let low = step;
  let high = Math.max(estimate, step * 2);
  let best = step;
  while (low <= high) {
    const middle = Math.floor((low + high) / 2);
    const { tokens } = options.draw(middle);
    yield undefined;
    if (tokens + reserve <= length) {
      best = middle;
      low = middle + 1;
    } else {
      high = middle - 1;
    }
  }
  return best;
}

/**
 * Draws one sample that fits: at `size` units first, then `step` fewer after each overflow.
 *
 * @throws AccelError ERR_ACCEL_ARGUMENT when even the smallest haystack is too long
 */
export function* drawFitting<T>(
  options: Pick<FitOptions<T>, 'label' | 'length' | 'step' | 'draw'> & {
    readonly size: number;
    readonly answer: number;
  },
): Steps<Draw<T>> {
  let size = options.size;
  let smallest = Infinity;
  for (let redraws = 0; redraws < MAX_REDRAWS;) {
    const drawn = options.draw(size);
    const total = drawn.tokens + options.answer;
    yield undefined;
    if (total <= options.length) return drawn;
    smallest = Math.min(smallest, total);
    if (size > options.step) size -= options.step;
    else redraws++;
  }
  throw new AccelError(
    'ERR_ACCEL_ARGUMENT',
    `${options.label} does not fit: its smallest prompt and answer take ${smallest} tokens and the length is ` +
      `${options.length}. Use a greater length for this task or leave it out.`,
  );
}
