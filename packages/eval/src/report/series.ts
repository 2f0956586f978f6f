import type { Mode } from '../prompt/modes.js';
import { MODES } from '../prompt/modes.js';
import type { LoadedRun } from './read-run.js';
import type { SummaryAverage, SummaryCell, SummaryGroup, SummaryTotal } from './summary.js';

/** A method of a run: a column of the tables that set methods side by side. */
export interface Series {
  /** The method's name; with the run's in front where there are several runs. */
  readonly label: string;
  readonly run: LoadedRun;
  readonly method: string;
}

/** All methods of all runs. */
export function seriesOf(runs: readonly LoadedRun[]): Series[] {
  return runs.flatMap((run) =>
    run.summary.methods.map((method) => ({
      label: runs.length > 1 ? `${run.name}: ${method}` : method,
      run,
      method,
    })),
  );
}

/** Modes that any of the runs has, in the order of reports. */
export function modesOf(runs: readonly LoadedRun[]): Mode[] {
  return MODES.filter((mode) => runs.some(({ summary }) => summary.modes.includes(mode)));
}

/** Lengths of all runs, shortest first. */
export function lengthsOf(runs: readonly LoadedRun[]): (number | null)[] {
  const lengths = new Set(runs.flatMap(({ summary }) => summary.lengths));
  return [...lengths].sort((a, b) => (a ?? 0) - (b ?? 0));
}

/** Names of the tasks of all runs, in the order in which they appear. */
export function tasksOf(runs: readonly LoadedRun[]): string[] {
  return [...new Set(runs.flatMap(({ summary }) => summary.tasks))];
}

/** Finds the figures of a method in a mode. */
export function totalOf({ run, method }: Series, mode: Mode): SummaryTotal | undefined {
  return run.summary.totals.find((entry) => entry.method === method && entry.mode === mode);
}

/** The same at one length. */
export function averageOf(
  { run, method }: Series,
  mode: Mode,
  length: number | null,
): SummaryAverage | undefined {
  return run.summary.averages.find(
    (entry) => entry.method === method && entry.mode === mode && entry.length === length,
  );
}

/** The same for one task at one length. */
export function cellOf(
  { run, method }: Series,
  mode: Mode,
  length: number | null,
  task: string,
): SummaryCell | undefined {
  return run.summary.cells.find(
    (entry) =>
      entry.method === method &&
      entry.mode === mode &&
      entry.length === length &&
      entry.task === task,
  );
}

/** The same for a group of LongBench. */
export function groupOf(
  { run, method }: Series,
  mode: Mode,
  group: string,
): SummaryGroup | undefined {
  return run.summary.groups.find(
    (entry) => entry.method === method && entry.mode === mode && entry.group === group,
  );
}
