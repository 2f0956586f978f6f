import { configError } from '../errors.js';
import type { Mode } from '../prompt/modes.js';
import type { EvalRecord } from '../runner/records.js';
import { answered } from './figures.js';
import { holm, testPaired } from './paired.js';
import type { PairedOptions, PairedResult } from './paired.js';
import type { LoadedRun } from './read-run.js';
import { assertSameSamples } from './same-samples.js';
import { meanOf } from './statistics.js';
import { groupBy } from './summary.js';

/** One side of a comparison. */
export interface ComparedSide {
  readonly run: LoadedRun;
  readonly method: string;
}

/** Pairs of one task, of one length, or all. Differences are other minus baseline. */
export interface ComparisonRow extends PairedResult {
  readonly pairs: number;
  /** Means over strata, as the difference is. */
  readonly baseline: number;
  readonly other: number;
  /** Pairs in which the other side scores better, worse, the same. */
  readonly wins: number;
  readonly losses: number;
  readonly ties: number;
}

/** Two methods, or a method in two runs, in one mode. */
export interface Comparison {
  readonly mode: Mode;
  readonly baseline: { readonly run: string; readonly method: string };
  readonly other: { readonly run: string; readonly method: string };
  readonly better: 'higher' | 'lower';
  readonly overall: ComparisonRow;
  /** `holm`: p corrected for there being so many tasks. */
  readonly tasks: readonly (ComparisonRow & { readonly task: string; readonly holm: number })[];
  readonly lengths: readonly (ComparisonRow & { readonly length: number | null })[];
  /** Ids of the other side's records whose prediction is not the baseline's. */
  readonly differing: readonly string[];
  /** Samples left out: an answer is missing on one side, because it failed or is not there. */
  readonly unpaired: number;
}

interface Pair {
  readonly baseline: EvalRecord;
  readonly other: EvalRecord;
}

/**
 * Compares two methods sample by sample, one comparison for each mode that both runs have.
 *
 * @throws AccelError ERR_ACCEL_CONFIG when the samples are not the same or there is no common one; ERR_ACCEL_ARGUMENT
 * when a method is not in its run
 */
export function compare(
  baseline: ComparedSide,
  other: ComparedSide,
  options: PairedOptions = {},
): Comparison[] {
  assertSameSamples(baseline, other);
  const { better, unit } = other.run.summary;
  const modes = other.run.summary.modes.filter((mode) => baseline.run.summary.modes.includes(mode));
  const comparisons = modes.flatMap((mode): Comparison[] => {
    const { pairs, unpaired } = pairUp(baseline, other, mode);
    if (pairs.length === 0) return [];
    const row = (list: readonly Pair[]): ComparisonRow => compareRow(list, better, options);
    const tasks = [...groupBy(pairs, ({ other: { task } }) => task)].map(([task, list]) => ({
      task,
      ...row(list),
    }));
    const corrected = holm(tasks.map(({ p }) => p));
    return [
      {
        mode,
        baseline: { run: baseline.run.name, method: baseline.method },
        other: { run: other.run.name, method: other.method },
        better,
        overall: row(pairs),
        tasks: tasks.map((task, i) => ({ ...task, holm: corrected[i] ?? 1 })),
        lengths: [...groupBy(pairs, ({ other: { length } }) => String(length))].map(([, list]) => ({
          length: list[0]?.other.length ?? null,
          ...row(list),
        })),
        differing:
          unit === 'nats'
            ? []
            : pairs
                .filter((pair) => pair.baseline.prediction !== pair.other.prediction)
                .map((pair) => pair.other.id),
        unpaired,
      },
    ];
  });
  if (comparisons.length > 0) return comparisons;
  throw configError(
    `${baseline.run.name} (${baseline.method}) and ${other.run.name} (${other.method}) have no sample in common that both answered. Compare runs with common tasks, lengths and modes.`,
  );
}

/** Pairs in the order of the other run's tasks. */
function pairUp(
  baseline: ComparedSide,
  other: ComparedSide,
  mode: Mode,
): { pairs: Pair[]; unpaired: number } {
  const left = answersOf(baseline, mode);
  const right = answersOf(other, mode);
  const pairs = [...right].flatMap(([key, record]) => {
    const partner = left.get(key);
    return partner === undefined ? [] : [{ baseline: partner, other: record }];
  });
  const { tasks, lengths } = other.run.summary;
  pairs.sort(
    (a, b) =>
      lengths.indexOf(a.other.length) - lengths.indexOf(b.other.length) ||
      tasks.indexOf(a.other.task) - tasks.indexOf(b.other.task) ||
      a.other.sample - b.other.sample,
  );
  return { pairs, unpaired: left.size + right.size - 2 * pairs.length };
}

function answersOf({ run, method }: ComparedSide, mode: Mode): Map<string, EvalRecord> {
  const records = answered(run.records).filter(
    (record) => record.method === method && record.mode === mode,
  );
  return new Map(records.map((record) => [sampleKey(record), record]));
}

function sampleKey({ task, length, sample }: EvalRecord): string {
  return JSON.stringify([task, length, sample]);
}

function compareRow(
  pairs: readonly Pair[],
  better: 'higher' | 'lower',
  options: PairedOptions,
): ComparisonRow {
  const strata = [
    ...groupBy(pairs, ({ other: { task, length } }) => JSON.stringify([task, length])).values(),
  ];
  const mean = (value: (pair: Pair) => number): number =>
    meanOf(strata.map((list) => meanOf(list.map(value))));
  const difference = (pair: Pair): number => pair.other.score - pair.baseline.score;
  const sign = better === 'higher' ? 1 : -1;
  const wins = pairs.filter((pair) => sign * difference(pair) > 0).length;
  const losses = pairs.filter((pair) => sign * difference(pair) < 0).length;
  return {
    pairs: pairs.length,
    baseline: mean((pair) => pair.baseline.score),
    other: mean((pair) => pair.other.score),
    wins,
    losses,
    ties: pairs.length - wins - losses,
    ...testPaired(
      strata.map((list) => list.map(difference)),
      options,
    ),
  };
}
