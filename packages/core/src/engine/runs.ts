import type { Tensor } from '@accel/kernels';
import type { Piece } from './chunks.js';

/** Splits pieces into the longest runs whose neighbours belong together. */
export function runs(
  pieces: readonly Piece[],
  alike: (a: Piece, b: Piece) => boolean,
): readonly (readonly Piece[])[] {
  if (pieces.length === 1) return [pieces];
  const all: Piece[][] = [];
  for (const piece of pieces) {
    const run = all.at(-1);
    const last = run?.at(-1);
    if (run !== undefined && last !== undefined && alike(last, piece)) run.push(piece);
    else all.push([piece]);
  }
  return all;
}

/** Rows of a run of pieces in tensors that hold the rows `[begin, end)` of the batch; whole tensors stay as they are. */
export class Views implements Disposable {
  readonly #from: number;
  readonly #to: number;
  readonly #whole: boolean;
  readonly #slices: Tensor[] = [];

  constructor({ begin, end }: { begin: number; end: number }, run: readonly Piece[]) {
    this.#from = (run[0] as Piece).begin - begin;
    this.#to = (run.at(-1) as Piece).end - begin;
    this.#whole = this.#from === 0 && this.#to === end - begin;
  }

  of(tensor: Tensor): Tensor {
    if (this.#whole) return tensor;
    const slice = tensor.slice(this.#from, this.#to);
    this.#slices.push(slice);
    return slice;
  }

  [Symbol.dispose](): void {
    for (const slice of this.#slices) slice.dispose();
  }
}
