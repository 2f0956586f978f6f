import { BLOCK, type BlockCall, type BlockChooser, type PrefillPart } from '@accel/core';
import { ops, Tensor } from '@accel/kernels';

/** What a call had, kept to compute from directly. */
export interface SeenCall {
  readonly layer: number;
  readonly first: number;
  readonly m: number;
  /** `[m, heads, headDim]` and `[kvHeads, rows, headDim]`, in the model's format. */
  readonly q: Tensor;
  readonly k: Tensor;
  readonly scale: number;
}

/** Whether head h of the stand-in computes block (i, j): the first column and a band that widens with the head. */
export function isChosen(h: number, i: number, j: number): boolean {
  return j === 0 || i - j <= h;
}

/**
 * A method that always chooses the same blocks and tells recalls of `0.5 + head / 100` and a second figure. Before
 * `denseRows` it wants dense attention.
 */
export function fixedBlocks(
  denseRows: number,
  kvHeads: number,
  calls: SeenCall[] = [],
): PrefillPart {
  return Object.freeze({
    id: 'fixed',
    slot: 'prefill',
    needs: [],
    provides: ['observedWindow'],
    lossy: true,
    figures: ['recall', 'width'],
    options: { denseRows },
    create: (): BlockChooser => new FixedChooser(denseRows, kvHeads, calls),
  } satisfies PrefillPart);
}

class FixedChooser implements BlockChooser {
  readonly idleRows: number;
  readonly #kvHeads: number;
  readonly #calls: SeenCall[];

  constructor(denseRows: number, kvHeads: number, calls: SeenCall[]) {
    this.idleRows = denseRows;
    this.#kvHeads = kvHeads;
    this.#calls = calls;
  }

  choose(call: BlockCall): string | undefined {
    const { layer, m, rows, q, kv, scale, stream, mask, figures } = call;
    const [, heads = 0, dim = 0] = q.shape;
    const kept = {
      q: Tensor.empty(q.device, q.dtype, q.shape),
      k: Tensor.empty(q.device, q.dtype, [this.#kvHeads, rows, dim]),
    };
    const all = Int32Array.from({ length: m }, (_, row) => row);
    ops.gatherRows(stream, kept.q, q, all);
    ops.kvRead(stream, kept.k, null, null, kv);
    this.#calls.push({ layer, first: rows - m, m, scale, ...kept });
    if (rows <= this.idleRows) return `at most ${this.idleRows} rows`;
    const [rowBlocks = 0, , words = 0] = mask.shape;
    const bits = new Int32Array(mask.size);
    for (let row = 0; row < rowBlocks; row++) {
      const i = (rows - m) / BLOCK + row;
      for (let h = 0; h < heads; h++) {
        for (let j = 0; j <= i; j++) {
          if (!isChosen(h, i, j)) continue;
          const at = (row * heads + h) * words + (j >> 5);
          bits[at] = (bits[at] ?? 0) | (1 << (j & 31));
        }
      }
    }
    mask.write(stream, bits);
    const told = Array.from({ length: heads }, (_, h) => [0.5 + h / 100, h + 1]);
    figures.write(stream, Float32Array.from(told.flat()));
    return undefined;
  }

  fork(): BlockChooser {
    return new FixedChooser(this.idleRows, this.#kvHeads, this.#calls);
  }

  dispose(): void {
    // The test disposes what the calls hold.
  }
}
