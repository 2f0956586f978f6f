import type { Panel } from '../../panels.js';

/** Pixels of a page that small charts can share, less the names on their left. */
const PAGE = 1170;
const GAP = 25;

/** Small charts of so many pixels beside each other: as many as fit, in rows of equal length. */
export function columnsOf(count: number, width: number): number {
  const fitting = Math.max(1, Math.floor(PAGE / (width + GAP)));
  return Math.max(1, Math.ceil(count / Math.ceil(count / fitting)));
}

/** The same for panels, so that the lengths of a mode begin a row. */
export function columnsFor(width: number, panels: readonly Panel[]): number {
  return columnsOf(new Set(panels.map(({ length }) => length)).size, width);
}
