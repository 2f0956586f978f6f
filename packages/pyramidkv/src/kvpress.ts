import type { PyramidShape } from './budgets.js';

/**
 * PyramidKV as NVIDIA/kvpress reads it: the line is drawn over the rows that stay, window included, in double precision
 * with this order of operations, and rounded half to even. Where the last layer would not even hold its window, all
 * layers get the average: no pyramid.
 */
export function kvpressRows({
  capacity,
  window,
  rows,
  layers,
  beta,
}: PyramidShape): readonly number[] {
  const average = window + capacity - window;
  let least = average / beta;
  let most = average * 2 - least;
  if (most >= rows - window) {
    most = rows - window;
    least = average * 2 - most;
  }
  if (layers === 1 || !(rows >= most && most >= least && least >= window)) {
    const uniform = Math.min(rows, Math.max(1, roundHalfEven(capacity)));
    return new Array<number>(layers).fill(uniform);
  }
  const step = (most - least) / (layers - 1);
  return Array.from({ length: layers }, (_, layer) => roundHalfEven(most - layer * step));
}

function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  return floor + Number(rest > 0.5 || (rest === 0.5 && floor % 2 !== 0));
}
