import { round2 } from '../score.js';
import type { EvalSummary, SummaryCell } from './summary.js';

/**
 * The results as a plain-text table: a row for each method and length, or for each method, length and task.
 *
 * @param options.byTask one row a task instead of the mean over tasks. Default false
 */
export function formatTable(summary: EvalSummary, options: { byTask?: boolean } = {}): string {
  const byTask = options.byTask ?? false;
  const sparse = summary.averages.some(({ density }) => density !== undefined);
  const header = [
    'Method',
    'Length',
    ...(byTask ? ['Task'] : []),
    'Score',
    'Kept rows',
    'KV cache',
    ...(sparse ? ['Blocks'] : []),
    'Prefill s',
    'Decode tok/s',
  ];
  const rows = (byTask ? summary.cells : summary.averages).map((cell) => [
    cell.method,
    String(cell.length),
    ...(byTask ? [cell.task ?? ''] : []),
    formatScore(cell),
    `${Math.round(cell.rowsStored)} / ${Math.round(cell.rowsIn)}`,
    formatBytes(cell.kvMeasuredBytes),
    ...(sparse ? [cell.density === undefined ? '-' : `${(100 * cell.density).toFixed(1)} %`] : []),
    cell.prefillSeconds.toFixed(2),
    cell.decodeTokensPerSecond === null ? '-' : cell.decodeTokensPerSecond.toFixed(1),
  ]);
  const leftAligned = byTask ? [0, 2] : [0];
  const widths = header.map((title, i) =>
    Math.max(title.length, ...rows.map((row) => (row[i] ?? '').length)),
  );
  const line = (row: readonly string[]): string =>
    row
      .map((text, i) =>
        leftAligned.includes(i) ? text.padEnd(widths[i] ?? 0) : text.padStart(widths[i] ?? 0),
      )
      .join('  ')
      .trimEnd();
  const rule = widths.map((width) => '─'.repeat(width)).join('  ');
  const fallbacks = [...new Set(summary.averages.flatMap((cell) => cell.fallbacks))];
  return [
    line(header),
    rule,
    ...rows.map(line),
    ...(fallbacks.length > 0 ? ['', `Fallbacks ran: ${fallbacks.join(', ')}`] : []),
  ].join('\n');
}

/** `83.3 ± 4.1`; without an error for a single record. */
export function formatScore(cell: Pick<SummaryCell, 'score' | 'se'>): string {
  return cell.se === null
    ? cell.score.toFixed(1)
    : `${cell.score.toFixed(1)} ± ${cell.se.toFixed(1)}`;
}

/** Bytes with a binary unit: `8.0 MiB`. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? String(Math.round(value)) : value.toFixed(1)} ${units[unit] ?? ''}`;
}

/**
 * The scores in the form of the seed toolkit's `summary.csv`, a column for each task and length, rows `Score` and
 * `Nulls`; one such pair of rows for each method, named in a first column.
 */
export function formatCsv(summary: EvalSummary): string {
  const columns = [...new Set(summary.cells.map(taskId))];
  const rows = summary.methods.flatMap(({ name }) => {
    const cells = new Map(
      summary.cells.filter((cell) => cell.method === name).map((cell) => [taskId(cell), cell]),
    );
    const row = (title: string, value: (cell: SummaryCell) => string): string[] => [
      name,
      title,
      ...columns.map((column) => {
        const cell = cells.get(column);
        return cell === undefined ? '' : value(cell);
      }),
    ];
    return [
      row('Score', (cell) => String(round2(cell.score))),
      row('Nulls', (cell) => `${cell.nulls}/${cell.n}`),
    ];
  });
  return [['Method', 'Tasks', ...columns], ...rows]
    .map((row) => `${row.map(csvField).join(',')}\n`)
    .join('');
}

function taskId(cell: SummaryCell): string {
  return `${cell.task ?? ''}_${cell.length}`;
}

function csvField(text: string): string {
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
