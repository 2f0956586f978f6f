import type { LayerEnd } from '@accel/core';
import { Tensor } from '@accel/kernels';
import { layerEnd, partSetup, readFloats, tokenMajor, type TestCache } from '@accel/testkit';
import { l2compress, type L2compressOptions } from '../src/index.js';
import { l2compressScores, type Protection } from '../src/norms.js';

/** Sizes of keys given head-major. */
export type Shape = readonly [heads: number, tokens: number, dim: number];

/** A cache with keys `[heads, tokens, dim]` in a layer, at positions 0, 1, …; values are the keys unless given. */
export function fill(
  cache: TestCache,
  keys: Float32Array,
  [heads, tokens, dim]: Shape,
  { layer = 0, from = 0, to = tokens, values = keys } = {},
): void {
  const rows = (data: Float32Array): Float32Array =>
    tokenMajor(data, [heads, tokens, dim], from, to);
  cache.append(rows(keys), rows(values), from, layer);
}

/** What the op says of a layer, `[heads, rows]`. */
export async function scoresOf(
  cache: TestCache,
  protection: Protection,
  layer = 0,
): Promise<Float32Array> {
  const rows = cache.kv.rows(layer, 0);
  using out = Tensor.empty(cache.device, 'float32', [cache.heads, rows]);
  l2compressScores(cache.stream, out, cache.kv.kv(layer), protection);
  return await readFloats(out, cache.stream);
}

/** What the selector says it did: none when it leaves a layer alone. */
export interface Report {
  readonly rowsIn: number;
  readonly rowsKept: number;
  readonly note?: string;
}

/** The selector at the end of prompts and decode steps of a cache that a test fills. */
export class Compressor {
  readonly reports: Report[] = [];
  readonly #cache: TestCache;
  readonly #selector: ReturnType<ReturnType<typeof l2compress>['create']>;

  constructor(cache: TestCache, options: L2compressOptions, layers = cache.kv.shape.layers) {
    this.#cache = cache;
    this.#selector = l2compress(options).create(partSetup(cache, { layers }));
  }

  async prefill(fields: Partial<LayerEnd> = {}): Promise<void> {
    this.#selector.prefillEnd(this.#end(fields));
    await this.#cache.stream.synchronize();
  }

  async decode(fields: Partial<LayerEnd> = {}): Promise<void> {
    this.#selector.decodeEnd?.(this.#end({ phase: 'decode', appended: 1, ...fields }));
    await this.#cache.stream.synchronize();
  }

  get selector(): ReturnType<ReturnType<typeof l2compress>['create']> {
    return this.#selector;
  }

  #end(fields: Partial<LayerEnd>): LayerEnd {
    return layerEnd(this.#cache, { ...fields, report: (done) => this.reports.push(done) });
  }
}
