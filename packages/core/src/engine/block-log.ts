import { Tensor, type Device, type Stream } from '@accel/kernels';
import type { ModelSpec } from '../config/spec.js';
import { BLOCK } from '../policy/prefill.js';
import type { PrefillReceipt } from '../receipt/receipt.js';

/** Choices whose numbers share tensors. */
const SLAB = 64;

/** One choice of blocks: where its numbers go. All of them are views. */
export interface BlockEntry extends Disposable {
  /** float32 `[heads, figures]` */
  readonly figures: Tensor;
  /** int32 `[1, heads]`, zeros: blocks computed. */
  readonly counts: Tensor;
  /** float64 `[1]`: the device's time before and after the choice. */
  readonly begin: Tensor;
  readonly end: Tensor;
}

/** Numbers of choices, on the device until the prompt is done. */
interface Slab {
  readonly figures: Tensor;
  readonly counts: Tensor;
  readonly clocks: Tensor;
  readonly choices: { readonly layer: number; readonly m: number; readonly blocks: number }[];
}

/** Sums over the choices of a layer. */
interface LayerSums {
  tokens: number;
  dense: number;
  /** Blocks up to the diagonal, for each head alike. */
  blocks: number;
  computed: number[];
  /** `[head][figure]`: sums over tokens, or the smallest. */
  figures: number[][];
}

/** What the prefill part of a sequence chose. Device numbers are collected while a prompt runs and read when it is done. */
export class BlockLog implements Disposable {
  readonly #device: Device;
  readonly #spec: ModelSpec;
  readonly #names: readonly string[];
  readonly #pending: Slab[] = [];
  #layers: LayerSums[];
  #dense = new Map<string, number>();
  #seconds = 0;

  constructor(device: Device, spec: ModelSpec, names: readonly string[]) {
    this.#device = device;
    this.#spec = spec;
    this.#names = names;
    this.#layers =
      names.length === 0 ? [] : Array.from({ length: spec.layers }, () => this.#none());
  }

  /** A choice is about to be made for `m` queries that see `rows` rows. */
  open(stream: Stream, layer: number, m: number, rows: number): BlockEntry {
    const slab = this.#slab(stream);
    const at = slab.choices.length;
    const prefix = (rows - m) / BLOCK;
    const rowBlocks = Math.ceil(m / BLOCK);
    slab.choices.push({ layer, m, blocks: rowBlocks * prefix + (rowBlocks * (rowBlocks + 1)) / 2 });
    using figures = slab.figures.slice(at, at + 1);
    const views = {
      figures: figures.view(figures.shape.slice(1)),
      counts: slab.counts.slice(at, at + 1),
      begin: slab.clocks.slice(2 * at, 2 * at + 1),
      end: slab.clocks.slice(2 * at + 1, 2 * at + 2),
    };
    return {
      ...views,
      [Symbol.dispose]() {
        for (const view of Object.values(views)) view.dispose();
      },
    };
  }

  /** Takes back the last {@link open}: the part would rather attend densely. */
  cancel(): void {
    this.#pending.at(-1)?.choices.pop();
  }

  /** Attention of some tokens was dense. */
  dense(layer: number, tokens: number, why: string): void {
    this.#dense.set(why, (this.#dense.get(why) ?? 0) + tokens);
    const sums = this.#layers[layer];
    if (sums !== undefined) sums.dense += tokens;
  }

  /** Reads what the device has counted. @returns how many choices there were */
  async settle(stream: Stream): Promise<number> {
    let choices = 0;
    for (const slab of this.#pending.splice(0)) {
      using figures = slab.figures;
      using counts = slab.counts;
      using clocks = slab.clocks;
      choices += slab.choices.length;
      this.#add(
        slab,
        (await figures.read(stream)) as Float32Array,
        (await counts.read(stream)) as Int32Array,
        (await clocks.read(stream)) as Float64Array,
      );
    }
    return choices;
  }

  receipt(): PrefillReceipt {
    const names = this.#names;
    return {
      estimateSeconds: this.#seconds,
      layers: this.#layers.map(({ tokens, dense, blocks, computed, figures }) => ({
        sparseTokens: tokens,
        denseTokens: dense,
        density: blocks === 0 ? [] : computed.map((count) => count / blocks),
        figures: Object.fromEntries(
          names.map((name, f) => {
            const of = figures.map((head) => head[f] ?? NaN);
            return [name, tokens === 0 ? [] : isLeast(name) ? of : of.map((sum) => sum / tokens)];
          }),
        ),
      })),
      dense: Object.fromEntries(this.#dense),
    };
  }

  /** For a fork, between prompts. */
  copy(): BlockLog {
    const copy = new BlockLog(this.#device, this.#spec, this.#names);
    copy.#layers = structuredClone(this.#layers);
    copy.#dense = new Map(this.#dense);
    copy.#seconds = this.#seconds;
    return copy;
  }

  dispose(): void {
    for (const { figures, counts, clocks } of this.#pending.splice(0)) {
      figures.dispose();
      counts.dispose();
      clocks.dispose();
    }
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #add(slab: Slab, figures: Float32Array, counts: Int32Array, clocks: Float64Array): void {
    const { heads } = this.#spec;
    for (const [i, { layer, m, blocks }] of slab.choices.entries()) {
      const sums = this.#layers[layer];
      if (sums === undefined) continue;
      this.#seconds += (clocks[2 * i + 1] ?? 0) - (clocks[2 * i] ?? 0);
      sums.tokens += m;
      sums.blocks += blocks;
      for (let h = 0; h < heads; h++) {
        sums.computed[h] = (sums.computed[h] ?? 0) + (counts[i * heads + h] ?? 0);
        const of = sums.figures[h] ?? [];
        for (const [f, name] of this.#names.entries()) {
          const x = figures[(i * heads + h) * this.#names.length + f] ?? NaN;
          of[f] = isLeast(name) ? Math.min(of[f] ?? Infinity, x) : (of[f] ?? 0) + m * x;
        }
      }
    }
  }

  #slab(stream: Stream): Slab {
    const last = this.#pending.at(-1);
    if (last !== undefined && last.choices.length < SLAB) return last;
    const { heads } = this.#spec;
    const slab: Slab = {
      figures: Tensor.empty(this.#device, 'float32', [SLAB, heads, this.#names.length]),
      counts: Tensor.empty(this.#device, 'int32', [SLAB, heads]),
      clocks: Tensor.empty(this.#device, 'float64', [2 * SLAB]),
      choices: [],
    };
    slab.counts.write(stream, new Int32Array(SLAB * heads));
    this.#pending.push(slab);
    return slab;
  }

  #none(): LayerSums {
    const { heads } = this.#spec;
    return {
      tokens: 0,
      dense: 0,
      blocks: 0,
      computed: new Array<number>(heads).fill(0),
      figures: Array.from({ length: heads }, () =>
        this.#names.map((name) => (isLeast(name) ? Infinity : 0)),
      ),
    };
  }
}

/** Whether chunks of a prompt share the smallest of their figures, not the mean. */
function isLeast(name: string): boolean {
  return name.startsWith('min');
}
