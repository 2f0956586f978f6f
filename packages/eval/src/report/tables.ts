import type { Metric } from '../benchmark/types.js';
import type { Mode } from '../prompt/modes.js';
import type { Figures } from './figures.js';
import {
  formatBytes,
  formatClock,
  formatInterval,
  formatLength,
  formatOr,
  formatScore,
  NONE,
} from './format.js';
import { gridText } from './grid.js';
import type { Grid, GridCell } from './grid.js';
import type { LoadedRun } from './read-run.js';
import { EFFECTIVE_SCORE, rulerFigures } from './ruler-figures.js';
import type { RulerFigures } from './ruler-figures.js';
import {
  averageOf,
  cellOf,
  groupOf,
  lengthsOf,
  modesOf,
  seriesOf,
  tasksOf,
  totalOf,
} from './series.js';
import type { Series } from './series.js';
import { groupBy } from './summary.js';
import type { EvalSummary } from './summary.js';

/**
 * The results of a run as a plain-text table: a row for each method, mode and length, or for each of their tasks.
 *
 * @param options.byTask one row a task instead of the mean over tasks. Default false
 */
export function formatTable(summary: EvalSummary, options: { byTask?: boolean } = {}): string {
  const byTask = options.byTask ?? false;
  const rows = byTask ? summary.cells : summary.averages;
  const sparse = rows.some(({ density }) => density !== null);
  const modes = summary.modes.length > 1;
  const grid: Grid = {
    title: 'Results',
    labels: 1 + Number(modes) + Number(byTask),
    head: [
      'Method',
      ...(modes ? ['Mode'] : []),
      ...(byTask ? ['Task'] : []),
      'Length',
      'Score',
      'Kept rows',
      'KV cache',
      ...(sparse ? ['Blocks'] : []),
      'Prefill s',
      'Decode tok/s',
    ],
    rows: rows.map((row) => [
      row.method,
      ...(modes ? [row.mode] : []),
      ...('task' in row && typeof row.task === 'string' ? [row.task] : []),
      formatLength(row.length),
      scoreCell(row, summary.unit),
      row.rowsStored === null
        ? NONE
        : `${Math.round(row.rowsStored)} / ${Math.round(row.rowsIn ?? 0)}`,
      formatOr(row.kv, ({ measuredBytes }) => formatBytes(measuredBytes)),
      ...(sparse ? [formatOr(row.density, (density) => `${(100 * density).toFixed(1)} %`)] : []),
      formatOr(row.prefillSeconds, (seconds) => seconds.toFixed(seconds < 0.1 ? 3 : 2)),
      formatOr(row.decodeTokensPerSecond, (rate) => rate.toFixed(1)),
    ]),
  };
  const fallbacks = [...new Set(rows.flatMap((row) => row.fallbacks))];
  const { failed } = summary.records;
  return [
    gridText(grid),
    ...(failed > 0 ? ['', `Without an answer: ${failed} records; records.jsonl says why.`] : []),
    ...(fallbacks.length > 0 ? ['', `Fallbacks ran: ${fallbacks.join(', ')}`] : []),
  ].join('\n');
}

/**
 * Scores as the seed toolkit shows them: a row for each length, a column for each method; with several modes a row for
 * each of them. Below: the mean over lengths, RULER's own figures, the size of the cache, and the time of all records.
 */
export function scoreGrid(runs: readonly LoadedRun[]): Grid {
  const unit = unitOf(runs);
  const lengths = lengthsOf(runs);
  const ruler = runs[0]?.summary.benchmark === 'RULER' && lengths.length > 1;
  const figures =
    (pick: (figures: RulerFigures) => string) =>
    (series: Series, mode: Mode): string =>
      pick(
        rulerFigures(
          series.run.summary.averages.filter(
            (entry) => entry.method === series.method && entry.mode === mode,
          ),
        ),
      );
  return sideBySide(runs, 'Scores by length', 'Sequence length', [
    ...lengths.map((length) => ({
      name: formatLength(length),
      cell: (series: Series, mode: Mode) => scoreCell(averageOf(series, mode, length), unit),
    })),
    ...(lengths.length > 1
      ? [{ name: 'Total', cell: (s: Series, mode: Mode) => scoreCell(totalOf(s, mode), unit) }]
      : []),
    ...(ruler
      ? [
          { name: 'wAvg (inc)', cell: figures(({ increasing }) => formatScore(increasing)) },
          { name: 'wAvg (dec)', cell: figures(({ decreasing }) => formatScore(decreasing)) },
          {
            name: `Effective length (≥ ${EFFECTIVE_SCORE})`,
            cell: figures(({ effectiveLength }) => formatOr(effectiveLength, formatLength)),
          },
        ]
      : []),
    {
      name: 'KV cache',
      cell: (series, mode) =>
        formatOr(totalOf(series, mode)?.kv, ({ measuredBytes }) => formatBytes(measuredBytes)),
    },
    {
      name: 'Reasoning time',
      cell: (series, mode) => formatOr(totalOf(series, mode)?.totalSeconds, formatClock),
    },
  ]);
}

/** {@link scoreGrid} as text, one table for each benchmark. */
export function formatScores(runs: readonly LoadedRun[]): string {
  return [...groupBy(runs, ({ summary }) => summary.benchmark)]
    .map(([benchmark, group]) => `${benchmark}\n\n${gridText(scoreGrid(group))}`)
    .join('\n\n');
}

/** Scores of every task at one length, a column for each method. */
export function taskGrid(runs: readonly LoadedRun[], length: number | null): Grid {
  const unit = unitOf(runs);
  const title = length === null ? 'Scores by task' : `Scores by task at ${formatLength(length)}`;
  return sideBySide(
    runs,
    title,
    'Task',
    tasksOf(runs).map((task) => ({
      name: task,
      cell: (series, mode) => scoreCell(cellOf(series, mode, length, task), unit),
    })),
  );
}

/** LongBench's categories and bins of lengths, a column for each method; undefined for other benchmarks. */
export function groupGrid(runs: readonly LoadedRun[]): Grid | undefined {
  const groups = [...new Set(runs.flatMap(({ summary }) => summary.groups.map((g) => g.group)))];
  if (groups.length === 0) return undefined;
  return sideBySide(
    runs,
    'Scores by category and length',
    'Group',
    groups.map((group) => ({
      name: group,
      cell: (series, mode) => scoreCell(groupOf(series, mode, group), unitOf(runs)),
    })),
  );
}

/** A score with its interval; the seed's dash where there is none. */
export function scoreCell(figures: Figures | undefined, unit: Metric['unit']): GridCell | string {
  const score = figures?.score ?? null;
  if (figures === undefined || score === null) return NONE;
  return {
    text: formatScore(score, unit),
    note: formatInterval(figures.ci95, unit),
    share: unit === 'percent' ? score / 100 : undefined,
  };
}

interface Line {
  readonly name: string;
  readonly cell: (series: Series, mode: Mode) => GridCell | string;
}

function sideBySide(
  runs: readonly LoadedRun[],
  title: string,
  first: string,
  lines: readonly Line[],
): Grid {
  const series = seriesOf(runs);
  const modes = modesOf(runs);
  const several = modes.length > 1;
  return {
    title,
    labels: several ? 2 : 1,
    head: [first, ...(several ? ['Mode'] : []), ...series.map(({ label }) => label)],
    rows: lines.flatMap(({ name, cell }) =>
      modes.map((mode) => [
        name,
        ...(several ? [mode] : []),
        ...series.map((column) => cell(column, mode)),
      ]),
    ),
  };
}

function unitOf(runs: readonly LoadedRun[]): Metric['unit'] {
  return runs[0]?.summary.unit;
}
