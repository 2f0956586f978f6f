import type { Allocator, LayerEnd, Selector } from '@accel/core';
import { keepBest } from '@accel/core';
import { snapkv, type SnapkvOptions } from '@accel/snapkv';
import { layerEnd, partSetup, readFloats, TestCache, tokenMajor } from '@accel/testkit';
import { pyramidkv, type PyramidkvOptions } from '../src/index.js';

/** One layer of a prompt: keys `[kvHeads, tokens, dim]` and the last queries `[heads, window, dim]`. */
export interface LayerInput {
  readonly layer: number;
  readonly keys: Float32Array;
  readonly queries: Float32Array;
  /** `[kvHeads, tokens, dim]`; default: the keys. */
  readonly values?: Float32Array;
}

/** Sizes of a prompt. */
export interface Sizes {
  readonly heads: number;
  readonly kvHeads: number;
  readonly dim: number;
  readonly tokens: number;
  readonly window: number;
  readonly layers: number;
}

/** SnapKV and PyramidKV on a cache that a test fills, layer by layer, as the engine works through them. */
export class Pyramid implements Disposable {
  readonly cache: TestCache;
  readonly #sizes: Sizes;
  readonly #selector: Selector;
  readonly #allocator: Allocator;

  constructor(device: string, sizes: Sizes, select: SnapkvOptions, own: PyramidkvOptions) {
    const { heads, kvHeads, dim, layers } = sizes;
    this.#sizes = sizes;
    this.cache = new TestCache(device, { heads: kvHeads, headDim: dim, layers });
    const setup = partSetup(this.cache, { layers, heads });
    this.#selector = snapkv(select).create(setup);
    this.#allocator = pyramidkv(own).create(setup);
  }

  /**
   * Appends a layer's prompt and cuts it.
   * @returns pooled scores of all rows, `[kvHeads, tokens]`, +∞ for the window; undefined when nothing was to be cut
   */
  async run({
    layer,
    keys,
    queries,
    values = keys,
  }: LayerInput): Promise<Float32Array | undefined> {
    const { cache } = this;
    const { heads, kvHeads, dim, tokens, window } = this.#sizes;
    const shape = [kvHeads, tokens, dim] as const;
    cache.append(tokenMajor(keys, shape), tokenMajor(values, shape), 0, layer);
    using last = cache.floats(tokenMajor(queries, [heads, window, dim]), [window, heads, dim]);
    const end = layerEnd(cache, { layer, queries: last });
    const { rows } = this.#allot(end);
    if (rows >= end.rows) {
      await cache.stream.synchronize();
      return undefined;
    }
    using scores = this.#selector.ranking?.score(end);
    if (scores === undefined) throw new Error('SnapKV scores the first prompt');
    keepBest(end, scores, rows);
    return await readFloats(scores, cache.stream);
  }

  #allot(end: LayerEnd): { readonly rows: number } {
    const capacity = this.#selector.ranking?.capacity(end);
    if (capacity === undefined) throw new Error('SnapKV ranks rows');
    const { rows: average, window } = capacity;
    const share = this.#allocator.prefillEnd({ ...end, average, window });
    if (share === undefined) throw new Error('PyramidKV decides at once');
    return share;
  }

  [Symbol.dispose](): void {
    this.cache.dispose();
  }
}
