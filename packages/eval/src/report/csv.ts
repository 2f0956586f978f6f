import { round2 } from '../score.js';
import type { Figures } from './figures.js';
import type { LoadedRun } from './read-run.js';
import type { EvalSummary, SummaryKey } from './summary.js';

/**
 * Scores in the form of the seed toolkit's `summary.csv`: a column for each task and length, rows `Score` and `Nulls`.
 * One such pair of rows for each method (and mode, where there are several), named in front. Cells without a score are
 * empty.
 */
export function formatCsv(summary: EvalSummary): string {
  return scoreRows([{ name: '', summary }], false);
}

/** The same for several runs, named in a first column. */
export function formatRunsCsv(runs: readonly Pick<LoadedRun, 'name' | 'summary'>[]): string {
  return scoreRows(runs, true);
}

function scoreRows(runs: readonly Pick<LoadedRun, 'name' | 'summary'>[], named: boolean): string {
  const columns = [...new Set(runs.flatMap(({ summary }) => summary.cells.map(columnName)))];
  const modes = runs.some(({ summary }) => summary.modes.length > 1);
  const head = [...(named ? ['Run'] : []), 'Method', ...(modes ? ['Mode'] : []), 'Tasks'];
  const rows = runs.flatMap(({ name, summary }) =>
    methodModes(summary).flatMap((key) => {
      const cells = new Map(
        summary.cells.filter((cell) => same(cell, key)).map((cell) => [columnName(cell), cell]),
      );
      const row = (title: string, value: (cell: Figures) => string): string[] => [
        ...(named ? [name] : []),
        key.method,
        ...(modes ? [key.mode] : []),
        title,
        ...columns.map((column) => {
          const cell = cells.get(column);
          return cell === undefined ? '' : value(cell);
        }),
      ];
      return [
        row('Score', ({ score }) => scoreField(summary, score)),
        row('Nulls', ({ nulls, n }) => `${nulls}/${n}`),
      ];
    }),
  );
  return csv([[...head, ...columns], ...rows]);
}

/**
 * Means in the form of the seed toolkit's `average_summary.csv`: a row for each length and a last one, `Total`, with the
 * mean over lengths; the same for each method and mode.
 */
export function formatAverageCsv(summary: EvalSummary): string {
  const rows = methodModes(summary).flatMap((key) => [
    ...summary.averages
      .filter((average) => same(average, key))
      .map(({ length, score }) => [
        ...keyFields(summary, key),
        String(length ?? 'any'),
        scoreField(summary, score),
      ]),
    ...summary.totals
      .filter((total) => same(total, key))
      .map(({ score }) => [...keyFields(summary, key), 'Total', scoreField(summary, score)]),
  ]);
  const head = summary.modes.length > 1 ? ['Method', 'Mode'] : ['Method'];
  return csv([[...head, 'Length', 'Average Score'], ...rows]);
}

function methodModes({ methods, modes }: EvalSummary): SummaryKey[] {
  return methods.flatMap((method) => modes.map((mode) => ({ method, mode })));
}

function same(entry: SummaryKey, key: SummaryKey): boolean {
  return entry.method === key.method && entry.mode === key.mode;
}

function keyFields({ modes }: EvalSummary, { method, mode }: SummaryKey): string[] {
  return modes.length > 1 ? [method, mode] : [method];
}

function columnName({ task, length }: { task: string; length: number | null }): string {
  return length === null ? task : `${task}_${length}`;
}

function scoreField({ unit }: EvalSummary, score: number | null): string {
  if (score === null) return '';
  return String(unit === 'percent' ? round2(score) : score);
}

function csv(rows: readonly (readonly string[])[]): string {
  return rows.map((row) => `${row.map(field).join(',')}\n`).join('');
}

function field(text: string): string {
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
