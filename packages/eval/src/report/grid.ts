/** A cell: what is read first, and what stands small beside it. */
export interface GridCell {
  readonly text: string;
  readonly note?: string | undefined;
  /** How good it is, 0 to 1: shades the cell where there is colour. */
  readonly share?: number | undefined;
}

/** A table before it is text, Markdown or HTML. */
export interface Grid {
  readonly title: string;
  readonly head: readonly string[];
  /** The first cells of each row that name it; the others are values. */
  readonly labels: number;
  readonly rows: readonly (readonly (string | GridCell)[])[];
}

/** `94.83 (88.9–97.7)`. */
function plain(cell: string | GridCell): string {
  if (typeof cell === 'string') return cell;
  return cell.note === undefined ? cell.text : `${cell.text} (${cell.note})`;
}

/** Aligned columns under headings, without the title. */
export function gridText(grid: Grid): string {
  const rows = grid.rows.map((row) => row.map(plain));
  const widths = grid.head.map((title, i) =>
    Math.max(title.length, ...rows.map((row) => (row[i] ?? '').length)),
  );
  const line = (row: readonly string[]): string =>
    row
      .map((text, i) =>
        i < grid.labels ? text.padEnd(widths[i] ?? 0) : text.padStart(widths[i] ?? 0),
      )
      .join('  ')
      .trimEnd();
  const rule = widths.map((width) => '─'.repeat(width)).join('  ');
  return [line(grid.head), rule, ...rows.map(line)].join('\n');
}

/** A table of GitHub's Markdown under its title. */
export function gridMarkdown(grid: Grid): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replace(/[\\|]/g, '\\$&').replace(/\s*\n\s*/g, ' ')).join(' | ')} |`;
  return [
    `#### ${grid.title}`,
    '',
    line(grid.head),
    `| ${grid.head.map((_, i) => (i < grid.labels ? '---' : '---:')).join(' | ')} |`,
    ...grid.rows.map((row) => line(row.map(plain))),
  ].join('\n');
}
