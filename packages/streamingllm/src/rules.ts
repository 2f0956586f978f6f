import { z } from 'zod';

/** What stays: the first `sink` rows of the stream and the newest `recent`. */
export interface Window {
  readonly sink: number;
  readonly recent: number;
}

/** {@link Window} in a file. */
export const windowSchema: z.ZodType<Window> = z.strictObject({
  sink: z.int().min(0),
  recent: z.int().min(1),
});

/** Rows `[at, at + count)` go. */
export interface Cut {
  readonly at: number;
  readonly count: number;
}

/**
 * Which of `rows` cached rows go so that `coming` more fit the window; `coming` = 0 is the trim after a step. Nothing
 * goes while all fit. Sinks never go, so with `coming` ≥ `recent` they are all that stays, and the cache may grow past
 * the window: there is no hard cap.
 */
export function cut({ sink, recent }: Window, rows: number, coming = 0): Cut {
  const at = Math.min(sink, rows);
  if (rows + coming <= sink + recent) return { at, count: 0 };
  const stay = Math.min(rows, Math.max(at, rows - recent + coming));
  return { at, count: stay - at };
}

/**
 * Position inside the cache of the token in row `row`, if the stream had gone through token by token with a trim after
 * each: the row itself until the window is full, then always the same.
 */
export function streamIndex({ sink, recent }: Window, row: number): number {
  return Math.min(row, sink + recent);
}
