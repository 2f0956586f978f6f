import type { BenchmarkName, Metric } from '../benchmark/types.js';
import { MODES } from '../prompt/modes.js';
import type { Mode } from '../prompt/modes.js';
import type { RunSettings } from '../runner/fingerprint.js';
import type { RunRecord } from '../runner/records.js';
import type { RunFile } from '../runner/run-file.js';
import { answered, figuresOf } from './figures.js';
import type { Figures, RecordStratum } from './figures.js';
import { longBenchGroups } from './longbench-groups.js';

/** What figures are about: a method in a mode. */
export interface SummaryKey {
  readonly method: string;
  readonly mode: Mode;
}

/** One task at one length. */
export interface SummaryCell extends SummaryKey, Figures {
  readonly task: string;
  /** Null where samples have lengths of their own. */
  readonly length: number | null;
}

/** One length; the score is the plain mean over tasks, however many records each has. */
export interface SummaryAverage extends SummaryKey, Figures {
  readonly length: number | null;
}

/** Everything; the score is the plain mean over lengths, the seed toolkit's `Total`. */
export type SummaryTotal = SummaryKey & Figures;

/** LongBench's categories, and LongBench-E's bins of lengths; the score is the plain mean over tasks. */
export interface SummaryGroup extends SummaryKey, Figures {
  readonly group: string;
}

/** `summary.json`. */
export interface EvalSummary {
  readonly format: 'accel-eval-summary/2';
  readonly benchmark: BenchmarkName;
  readonly unit: NonNullable<Metric['unit']>;
  readonly better: NonNullable<Metric['better']>;
  readonly settings: RunSettings;
  /** In the order of reports. */
  readonly methods: readonly string[];
  readonly modes: readonly Mode[];
  readonly lengths: readonly (number | null)[];
  /** Names, without lengths. */
  readonly tasks: readonly string[];
  readonly records: {
    /** Tasks × samples × modes × methods. */
    readonly expected: number;
    readonly answered: number;
    readonly failed: number;
  };
  /** Wall-clock seconds of all calls that worked on the run, as far as they were written down. */
  readonly seconds: number;
  readonly cells: readonly SummaryCell[];
  readonly averages: readonly SummaryAverage[];
  readonly totals: readonly SummaryTotal[];
  /** Empty but for LongBench. */
  readonly groups: readonly SummaryGroup[];
}

/**
 * Groups a run's records. The result does not depend on the order of the records; what has no record has no entry.
 */
export function summarise(run: RunFile, records: readonly RunRecord[]): EvalSummary {
  const metric = run.tasks[0]?.metric;
  const unit = metric?.unit ?? 'percent';
  const methods = run.methods.map(({ name }) => name);
  const lengths = [...new Set(run.tasks.map(({ length }) => length))];
  const tasks = [...new Set(run.tasks.map(({ name }) => name))];
  const modes = MODES.filter((mode) => run.modes.includes(mode));
  const byCell = groupBy(sortById(records), cellKey);
  const of = (key: SummaryKey, length: number | null): { task: string; records: RunRecord[] }[] =>
    tasks.flatMap((task) => {
      const found = byCell.get(cellKey({ ...key, task, length }));
      return found === undefined ? [] : [{ task, records: found }];
    });
  const keys = methods.flatMap((method) => modes.map((mode) => ({ method, mode })));
  const answers = answered(records).length;
  return {
    format: 'accel-eval-summary/2',
    benchmark: run.settings.benchmark,
    unit,
    better: metric?.better ?? 'higher',
    settings: run.settings,
    methods,
    modes,
    lengths,
    tasks,
    records: {
      expected: expected(run),
      answered: answers,
      failed: records.length - answers,
    },
    seconds: run.calls.reduce((sum, call) => sum + call.seconds, 0),
    cells: keys.flatMap((key) =>
      lengths.flatMap((length) =>
        of(key, length).map(({ task, records: found }) => ({
          ...key,
          length,
          task,
          ...figuresOf([{ weight: 1, records: found }], unit),
        })),
      ),
    ),
    averages: keys.flatMap((key) =>
      lengths.flatMap((length) => {
        const strata = equalWeights(of(key, length));
        return strata.length === 0 ? [] : [{ ...key, length, ...figuresOf(strata, unit) }];
      }),
    ),
    totals: keys.flatMap((key) => {
      const found = lengths
        .map((length) => equalWeights(of(key, length)))
        .filter((strata) => strata.length > 0);
      const strata = found.flatMap((list) =>
        list.map(({ weight, records: own }) => ({ weight: weight / found.length, records: own })),
      );
      return strata.length === 0 ? [] : [{ ...key, ...figuresOf(strata, unit) }];
    }),
    groups:
      run.settings.benchmark === 'LongBench'
        ? keys.flatMap((key) => longBenchGroups(key, of(key, null), unit))
        : [],
  };
}

/** A plain mean over the parts, whatever their sizes. */
export function equalWeights(parts: readonly { records: readonly RunRecord[] }[]): RecordStratum[] {
  return parts.map(({ records }) => ({ weight: 1 / parts.length, records }));
}

/** Groups in the order of their first elements. */
export function groupBy<T>(items: readonly T[], key: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const group = groups.get(key(item));
    if (group === undefined) groups.set(key(item), [item]);
    else group.push(item);
  }
  return groups;
}

function cellKey(of: { method: string; mode: Mode; task: string; length: number | null }): string {
  return JSON.stringify([of.method, of.mode, of.task, of.length]);
}

/** Sums of floating-point numbers depend on their order. */
function sortById(records: readonly RunRecord[]): RunRecord[] {
  return [...records].sort((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0));
}

function expected(run: RunFile): number {
  const samples = run.tasks.reduce((sum, task) => sum + task.samples, 0);
  return samples * run.modes.length * run.methods.length;
}
