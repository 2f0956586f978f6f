import { BLOCK, compose, freezePart, type AppendOptions, type Model } from '@accel/core';
import type { BlockCall, BlockChooser, Part, PartSetup, PrefillPart } from '@accel/core';
import { Tensor, type Stream } from '@accel/kernels';
import type { BlockSums, BlocksOptions, Stride } from '@accel/xattention';
import { blocksOf, measureBlockMass } from './block-mass.js';
import { observer } from './observer.js';

/** The estimate of `@accel/xattention`, which is loaded only when it is wanted. */
export type Estimate = (
  stream: Stream,
  mask: Tensor,
  figures: Tensor,
  q: Tensor,
  kv: BlockCall['kv'],
  options: BlocksOptions,
) => void;

/** One call: what XAttention estimates of each block beside what is there. */
interface Measured {
  readonly layer: number;
  readonly first: number;
  readonly m: number;
  /** float32 `[heads, row blocks, columns]`, both. */
  readonly sums: Tensor;
  readonly mass: Tensor;
}

/**
 * Reads a text with dense attention, and for every layer compares XAttention's block sums with the true attention mass.
 *
 * @returns one entry for each layer, as `thresholdFromSums` takes it
 */
export async function profileText(
  model: Model,
  tokens: Int32Array,
  estimate: Estimate,
  stride: Stride,
  options: Pick<AppendOptions, 'signal' | 'onProgress'> = {},
): Promise<BlockSums[]> {
  const measured: Measured[] = [];
  const parts: readonly Part[] = [profiler(estimate, stride, measured), observer(tokens.length)];
  try {
    using sequence = model.sequence({ policy: compose(...parts) });
    await sequence.append(tokens, options);
    const { layers, heads } = model.spec;
    const rowBlocks = blocksOf(tokens.length);
    const profiles: BlockSums[] = [];
    for (let layer = 0; layer < layers; layer++) {
      const calls = measured.filter((call) => call.layer === layer);
      const joined = async (which: 'sums' | 'mass'): Promise<Float32Array> =>
        join(model.stream, calls, which, heads, rowBlocks);
      const [sums, mass] = [await joined('sums'), await joined('mass')];
      profiles.push({ sums, mass, heads, rowBlocks, columns: rowBlocks });
    }
    return profiles;
  } finally {
    for (const { sums, mass } of measured) for (const tensor of [sums, mass]) tensor.dispose();
  }
}

/** The calls of a layer in one array `[heads, blocks, blocks]`; rows that were in no call stay 0 and say nothing. */
async function join(
  stream: Stream,
  calls: readonly Measured[],
  which: 'sums' | 'mass',
  heads: number,
  blocks: number,
): Promise<Float32Array> {
  const all = new Float32Array(heads * blocks * blocks);
  for (const call of calls) {
    const begin = call.first / BLOCK;
    const rows = blocksOf(call.m);
    const columns = begin + rows;
    const values = (await call[which].read(stream)) as Float32Array;
    for (let h = 0; h < heads; h++) {
      for (let i = 0; i < rows; i++) {
        const from = (h * rows + i) * columns;
        all.set(values.subarray(from, from + columns), (h * blocks + begin + i) * blocks);
      }
    }
  }
  return all;
}

function profiler(estimate: Estimate, stride: Stride, measured: Measured[]): PrefillPart {
  return freezePart({
    id: 'calibrate',
    slot: 'prefill',
    needs: [],
    provides: ['observedWindow', 'columnSums', 'headStats'],
    lossy: false,
    // The figures of XAttention's op; nobody reads them here.
    figures: ['recall', 'minRecall'],
    options: {},
    create: (setup) => new Profiler(setup, estimate, stride, measured),
  } satisfies PrefillPart);
}

class Profiler implements BlockChooser {
  readonly idleRows = Infinity;
  readonly #setup: PartSetup;
  readonly #estimate: Estimate;
  readonly #stride: Stride;
  readonly #measured: Measured[];
  readonly #thresholds: Tensor;

  constructor(setup: PartSetup, estimate: Estimate, stride: Stride, measured: Measured[]) {
    this.#setup = setup;
    this.#estimate = estimate;
    this.#stride = stride;
    this.#measured = measured;
    // What is chosen is thrown away.
    this.#thresholds = Tensor.from(setup.device, new Float64Array(setup.spec.heads).fill(1), [
      setup.spec.heads,
    ]);
  }

  choose(call: BlockCall): string {
    const { layer, stream, q, kv, m, rows, scale, mask, figures } = call;
    const { device, spec } = this.#setup;
    const mass = measureBlockMass(call);
    const sums = Tensor.empty(device, 'float32', [spec.heads, blocksOf(m), blocksOf(rows)]);
    this.#measured.push({ layer, first: rows - m, m, sums, mass });
    const [stride, thresholds] = [this.#stride, this.#thresholds];
    this.#estimate(stream, mask, figures, q, kv, { stride, scale, thresholds, sums });
    return 'calibration measures dense attention';
  }

  fork(): BlockChooser {
    return new Profiler(this.#setup, this.#estimate, this.#stride, this.#measured);
  }

  dispose(): void {
    this.#thresholds.dispose();
  }
}
