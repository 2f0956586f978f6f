import { AccelError } from '@accel/kernels';
import { kvpressRows } from './kvpress.js';

/**
 * - `exact`: the line of the paper, rounded so that the sum over layers is the budget
 * - `reference`: the authors' integer arithmetic, which overspends by its rounding
 * - `kvpress`: the ratio form of NVIDIA/kvpress, in double precision
 */
export type PyramidMode = 'exact' | 'reference' | 'kvpress';

/** What the rows of each layer are computed from. */
export interface PyramidShape {
  /** Rows per layer on average, window included: "max_capacity_prompt". Whole; with `kvpress` it may be a fraction. */
  readonly capacity: number;
  /** Newest rows that every layer keeps. */
  readonly window: number;
  /** Rows there are: the length of the prompt. */
  readonly rows: number;
  readonly layers: number;
  /** How steep the pyramid is: the last layer gets 1/beta of the average, the first the rest of twice the average. */
  readonly beta: number;
}

/**
 * Rows that each layer keeps of a prompt, window included (Cai et al. 2024, arXiv:2406.02069).
 *
 * With P = capacity − window, the first layer gets 2P − P/beta rows besides its window and the last P/beta, those between
 * lie on a line. A first layer that would get more than there are gets all, and the last one what is then left of 2P.
 * Prompts below the capacity are kept whole; below 2P all layers get P. One layer alone gets P.
 *
 * @returns one number a layer, never increasing
 * @throws AccelError `ERR_ACCEL_BUDGET` when the capacity does not exceed the window, `ERR_ACCEL_ARGUMENT` for numbers
 *   that are out of range
 */
export function pyramidRows(shape: PyramidShape, mode: PyramidMode = 'exact'): readonly number[] {
  check(shape, mode);
  if (mode === 'kvpress') return kvpressRows(shape);
  const { capacity, window, rows, layers } = shape;
  const average = capacity - window;
  if (rows < capacity) return new Array<number>(layers).fill(rows);
  if (layers === 1 || rows < 2 * average) return new Array<number>(layers).fill(capacity);
  const past = mode === 'exact' ? exactLine(shape, average) : referenceLine(shape, average);
  return past.map((kept) => kept + window);
}

/** Every division rounds down, so the step is too small and the sum too large. */
function referenceLine({ window, rows, layers, beta }: PyramidShape, average: number): number[] {
  let least = Math.floor(average / beta);
  let most = 2 * average - least;
  if (most >= rows - window) {
    most = rows - window;
    least = 2 * average - most;
  }
  const step = Math.floor((most - least) / (layers - 1));
  return Array.from({ length: layers }, (_, layer) => most - layer * step);
}

/**
 * The same line without rounding, in units of 1 / (beta · (layers − 1)) row, where all its points are whole numbers and
 * their sum is layers · average. Each is rounded down, and the layers that lost most get a row back.
 */
function exactLine({ window, rows, layers, beta }: PyramidShape, average: number): number[] {
  const unit = beta * (layers - 1);
  // The ends in units of 1/beta row.
  const most = Math.min(2 * average * beta - average, (rows - window) * beta);
  const least = 2 * average * beta - most;
  const points = Array.from(
    { length: layers },
    (_, layer) => most * (layers - 1) - layer * (most - least),
  );
  const kept = points.map((point) => Math.floor(point / unit));
  const left = layers * average - sum(kept);
  const lost = points.map((point, layer) => point - (kept[layer] ?? 0) * unit);
  const byLoss = [...lost.keys()].sort((a, b) => (lost[b] ?? 0) - (lost[a] ?? 0) || a - b);
  for (const layer of byLoss.slice(0, left)) kept[layer] = (kept[layer] ?? 0) + 1;
  // Without a window a layer could be left with nothing.
  return window === 0 ? lift(kept, 1) : kept;
}

/** Raises layers to `least`, one row at a time from the last of those that have most. The sum stays, and the order. */
function lift(kept: readonly number[], least: number): number[] {
  const lifted = [...kept];
  for (let layer = 0; layer < lifted.length; layer++) {
    while ((lifted[layer] ?? least) < least) {
      const donor = lifted.lastIndexOf(Math.max(...lifted));
      lifted[donor] = (lifted[donor] ?? 0) - 1;
      lifted[layer] = (lifted[layer] ?? 0) + 1;
    }
  }
  return lifted;
}

/**
 * Takes back what layers cannot use and gives it to those that can, in equal shares from the first layer on.
 * @param available rows that each layer has
 * @returns rows with the same sum, or all there are when that is less
 */
export function fitRows(rows: readonly number[], available: readonly number[]): readonly number[] {
  const fitted = rows.map((kept, layer) => Math.min(kept, available[layer] ?? 0));
  let left = sum(rows) - sum(fitted);
  while (left > 0) {
    const roomy = [...fitted.keys()].filter(
      (layer) => (fitted[layer] ?? 0) < (available[layer] ?? 0),
    );
    if (roomy.length === 0) break;
    const share = Math.ceil(left / roomy.length);
    for (const layer of roomy) {
      const more = Math.min(share, left, (available[layer] ?? 0) - (fitted[layer] ?? 0));
      fitted[layer] = (fitted[layer] ?? 0) + more;
      left -= more;
    }
  }
  return fitted;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}

function check({ capacity, window, rows, layers, beta }: PyramidShape, mode: PyramidMode): void {
  const counts = { rows, layers, beta, ...(mode !== 'kvpress' && { capacity }) };
  for (const [name, count] of Object.entries(counts)) {
    if (Number.isSafeInteger(count) && count >= 1) continue;
    throw new AccelError(
      'ERR_ACCEL_ARGUMENT',
      `PyramidKV: ${name} is ${count}; it must be a whole number of at least 1.`,
    );
  }
  if (!Number.isSafeInteger(window) || window < 0) {
    throw new AccelError(
      'ERR_ACCEL_ARGUMENT',
      `PyramidKV: window is ${window}; it must be a whole number of at least 0.`,
    );
  }
  // In the ratio form the window counts only where it fits.
  const least = mode === 'kvpress' ? 0 : window;
  if (!(capacity > least)) {
    throw new AccelError(
      'ERR_ACCEL_BUDGET',
      `PyramidKV: a capacity of ${capacity} rows does not exceed the window of ${least}, so there is nothing to share out. Give a larger budget or a smaller window.`,
    );
  }
}
