import type { Grid, GridCell } from '../grid.js';
import { escape } from './escape.js';

/** A table whose rows and columns are named by header cells; wide ones scroll by themselves. */
export function tableHtml(grid: Grid): string {
  const words = grid.head.map((_, i) => isWords(grid, i));
  const head = grid.head.map(
    (title, i) =>
      `<th scope="col"${(words[i] ?? false) ? ' class="words"' : ''}>${escape(title)}</th>`,
  );
  const rows = grid.rows.map((row, r) => {
    const cells = row.map((cell, i) =>
      i < grid.labels ? labelHtml(grid, r, i) : cellHtml(cell, words[i] ?? false),
    );
    return `<tr>${cells.join('')}</tr>`;
  });
  return `<div class="wide" tabindex="0" role="region" aria-label="${escape(grid.title)}"><table>
<caption>${escape(grid.title)}</caption>
<thead><tr>${head.join('')}</tr></thead>
<tbody>
${rows.join('\n')}
</tbody>
</table></div>`;
}

/** Names and values: `<dl>`. Values are text. */
export function listHtml(entries: readonly (readonly [string, string])[]): string {
  const items = entries.map(([name, value]) => `<dt>${escape(name)}</dt><dd>${escape(value)}</dd>`);
  return `<dl>\n${items.join('\n')}\n</dl>`;
}

/** Text that is read as it is, behind a line that opens it. */
export function foldedHtml(title: string, text: string): string {
  return `<details><summary>${escape(title)}</summary><pre>${escape(text)}</pre></details>`;
}

/** Longer than any number: columns with such cells are set like text. */
const WORDS = 24;

function isWords(grid: Grid, column: number): boolean {
  return column < grid.labels || grid.rows.some((row) => textOf(row[column]).length > WORDS);
}

/** The first label stands once for all rows that share it and have more labels to tell them apart. */
function labelHtml(grid: Grid, row: number, column: number): string {
  const text = textOf(grid.rows[row]?.[column]);
  if (column > 0 || grid.labels === 1) return `<th scope="row">${escape(text)}</th>`;
  const same = (other: number): boolean => textOf(grid.rows[other]?.[0]) === text;
  if (row > 0 && same(row - 1)) return '';
  let end = row + 1;
  while (end < grid.rows.length && same(end)) end++;
  return end === row + 1
    ? `<th scope="row">${escape(text)}</th>`
    : `<th scope="rowgroup" rowspan="${end - row}">${escape(text)}</th>`;
}

function cellHtml(cell: string | GridCell, words: boolean): string {
  const { text, note, share }: GridCell = typeof cell === 'string' ? { text: cell } : cell;
  const style = share === undefined ? '' : ` style="--share:${share.toFixed(3)}"`;
  const small = note === undefined ? '' : `<small>${escape(note)}</small>`;
  return `<td${words ? ' class="words"' : ''}${style}>${escape(text)}${small}</td>`;
}

function textOf(cell: string | GridCell | undefined): string {
  return typeof cell === 'string' ? cell : (cell?.text ?? '');
}
