import type { Mode } from '../prompt/modes.js';
import type { LoadedRun } from './read-run.js';
import type { Interval } from './statistics.js';

/** What a score is paid with. */
export type Cost = 'kvBytes' | 'seconds';

/** All of them, in the order of reports. */
export const COSTS: readonly Cost[] = ['kvBytes', 'seconds'];

/** A method in a mode at a length: what it scores and what it costs. */
export interface ParetoPoint {
  /** The run's name, where several are compared. */
  readonly run: string;
  /** The method's name in its run; in a sweep it names the budget too. */
  readonly method: string;
  readonly mode: Mode;
  readonly length: number | null;
  readonly score: number;
  readonly ci95: Interval | null;
  /** Mean of a record, bytes held after prefill. */
  readonly cost: number;
  /** No other point of its mode and length scores at least as well for at most as much, and is better in one of both. */
  readonly efficient: boolean;
}

/**
 * Scores against their cost, over tasks, one point for each method, mode and length that has both.
 *
 * @param cost `kvBytes`: bytes the cache held after prefill; `seconds`: prefill and decode of a record
 */
export function paretoPoints(runs: readonly LoadedRun[], cost: Cost): ParetoPoint[] {
  const lower = runs[0]?.summary.better === 'lower';
  const points = runs.flatMap(({ name, summary }) =>
    summary.averages.flatMap((average) => {
      const { method, mode, length, score, ci95 } = average;
      const paid = cost === 'kvBytes' ? average.kv?.measuredBytes : average.seconds;
      if (score === null || paid === null || paid === undefined) return [];
      return [{ run: name, method, mode, length, score, ci95, cost: paid }];
    }),
  );
  const gain = (point: { score: number }): number => (lower ? -point.score : point.score);
  return points.map((point) => ({
    ...point,
    efficient: !points.some(
      (rival) =>
        rival.mode === point.mode &&
        rival.length === point.length &&
        gain(rival) >= gain(point) &&
        rival.cost <= point.cost &&
        (gain(rival) > gain(point) || rival.cost < point.cost),
    ),
  }));
}
