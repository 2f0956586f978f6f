import { stripVTControlCharacters } from 'node:util';

/** One column of a table. */
export interface Column {
  /** Heading; may be empty. */
  readonly title: string;
  /** Side the cells are flush with; default left. */
  readonly align?: 'left' | 'right';
}

function pad(text: string, width: number, align: 'left' | 'right'): string {
  const missing = ' '.repeat(Math.max(0, width - stripVTControlCharacters(text).length));
  return align === 'right' ? missing + text : text + missing;
}

/**
 * Lays out rows under headings, one line a row, columns as wide as their widest cell.
 *
 * @param rows cells in the order of the columns; missing ones are empty. `'-'` alone draws a rule.
 * @param style applied to the line of headings
 * @returns lines joined by newlines, with one at the end
 */
export function renderTable(
  columns: readonly Column[],
  rows: readonly (readonly string[] | '-')[],
  style: (text: string) => string = (text) => text,
): string {
  const widths = columns.map((column, index) =>
    Math.max(
      column.title.length,
      ...rows.map((row) => (row === '-' ? 0 : stripVTControlCharacters(row[index] ?? '').length)),
    ),
  );
  const line = (cells: readonly string[]) =>
    columns
      .map((column, index) => pad(cells[index] ?? '', widths[index] ?? 0, column.align ?? 'left'))
      .join('  ')
      .trimEnd();
  const rule = widths.map((width) => '-'.repeat(width)).join('  ');
  return [
    style(line(columns.map((column) => column.title))),
    rule,
    ...rows.map((row) => (row === '-' ? rule : line(row))),
    '',
  ].join('\n');
}
