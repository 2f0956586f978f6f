/** Rows of one head in plain TypeScript: what the kernel and the selector are tested with. */
export interface ReferenceRow {
  readonly position: number;
  readonly score: number;
}

/** `h2o_victim` for one head: the row that leaves. @param keep newest rows that stay */
export function referenceVictim(scores: ArrayLike<number>, keep: number): number {
  let victim = 0;
  for (let row = 1; row < scores.length - keep; row++) {
    if ((scores[row] ?? 0) <= (scores[victim] ?? 0)) victim = row;
  }
  return victim;
}

/**
 * What stays of one head after a forward: nothing leaves while all fit, then the newest `recent` and of the others the
 * best, by score descending and position ascending.
 */
export function referenceKept(
  head: readonly ReferenceRow[],
  rows: number,
  recent: number,
): ReferenceRow[] {
  if (head.length <= rows) return [...head];
  const candidates = head.slice(0, head.length - recent);
  const best = [...candidates].sort((a, b) => b.score - a.score || a.position - b.position);
  const heavy = best.slice(0, rows - recent).sort((a, b) => a.position - b.position);
  return [...heavy, ...head.slice(head.length - recent)];
}
