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
  /** Tokens a prompt may have with its answer. */
  readonly length: number;
  /** Tokens that come on top of every drawn prompt during the search (answer, worked example). */
  readonly reserve: number;
  /** Smallest haystack, and the amount it shrinks by when a sample overflows. */
  readonly step: number;
  /** Size of the first draw, which tells how many tokens a unit takes. Default: `step`. */
  readonly probe?: number;
  /** The greatest size to try. Default: three times as many units as fit by the first draw. */
  readonly most?: (length: number, tokensPerUnit: number) => number;
  /** Draws a haystack of `size` units. Consumes random numbers: every call counts. */
  readonly draw: (size: number) => Draw<T>;
}

/** Redraws at the smallest size before giving up; the original tries for ever. */
const MAX_REDRAWS = 100;

/**
 * Finds the largest haystack that fits, by binary search from `step` to `most`. Each probe draws a fresh sample, so the
 * search is part of the random stream and must be repeated exactly.
 */
export function* fitHaystack<T>(options: FitOptions<T>): Steps<number> {
  const { length, reserve, step, probe = step, most = thrice } = options;
  const tokensPerUnit = options.draw(probe).tokens / probe;
  yield undefined;
  let low = step;
  let high = Math.max(most(length, tokensPerUnit), step * 2);
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

function thrice(length: number, tokensPerUnit: number): number {
  return Math.trunc((length / tokensPerUnit) * 3);
}

/** Draws one sample: at `size` units first, then `step` fewer after each overflow. The shortest one if none fits. */
export function* drawFitting<T>(
  options: Pick<FitOptions<T>, 'length' | 'step' | 'draw'> & {
    readonly size: number;
    /** Tokens of the answer. */
    readonly answer: number;
  },
): Steps<Draw<T>> {
  let size = options.size;
  let shortest: Draw<T> | undefined;
  for (let redraws = 0; ;) {
    const drawn = options.draw(size);
    yield undefined;
    if (drawn.tokens + options.answer <= options.length) return drawn;
    if (shortest === undefined || drawn.tokens < shortest.tokens) shortest = drawn;
    if (size > options.step) size -= options.step;
    else if (++redraws === MAX_REDRAWS) return shortest;
  }
}

/** @param smallest tokens of the shortest prompt that was tried, with its answer */
export function doesNotFit(label: string, smallest: number, length: number): AccelError {
  return new AccelError(
    'ERR_ACCEL_ARGUMENT',
    `${label} does not fit: its smallest prompt and answer take ${smallest} tokens and the length is ${length}. ` +
      'Use a greater length for this task or leave it out.',
  );
}
