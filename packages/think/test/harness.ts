import type { Channels, RowFormat } from '@accel/core';
import { Tensor, type DType } from '@accel/kernels';
import { layerEnd, partSetup, readFloats, TestCache } from '@accel/testkit';
import { think, type ThinkOptions } from '../src/index.js';
import { thinkQueries, thinkRead, thinkScores } from '../src/ops.js';
import { keptChannels, settingsFrom, type ThinkSettings } from '../src/settings.js';

/** Sizes of a stream. */
export interface StreamShape {
  readonly heads: number;
  readonly kvHeads: number;
  readonly dim: number;
  /** Default `'float32'`. */
  readonly dtype?: DType;
  /** Default: 16 rows. */
  readonly pageBytes?: number;
}

/** ThinK's part on a one-layer cache, driven as the engine drives it. Tensors are token-major, keys rotated already. */
export class ThinkHarness implements Disposable {
  readonly cache: TestCache;
  readonly settings: ThinkSettings;
  readonly format: RowFormat;
  readonly channels: Channels;
  /** Channels that pruned keys have. */
  readonly kept: number;
  readonly #shape: StreamShape;

  constructor(device: string, shape: StreamShape, options: ThinkOptions) {
    const { kvHeads, dim, dtype = 'float32', pageBytes } = shape;
    const part = think(options);
    this.#shape = shape;
    this.settings = settingsFrom(options);
    this.kept = keptChannels(this.settings, dim);
    const spec = { heads: shape.heads, kvHeads, headDim: dim };
    this.format = part.format({ spec, dtype } as Parameters<typeof part.format>[0]);
    this.cache = new TestCache(device, {
      heads: kvHeads,
      headDim: dim,
      dtype,
      encoded: this.format.items,
      ...(pageBytes !== undefined && { pageBytes }),
    });
    this.channels = part.create(partSetup(this.cache, spec));
  }

  /** Queries `[m, heads, dim]` in the cache's format. */
  queries(q: Float32Array): Tensor {
    const { heads, dim } = this.#shape;
    return this.cache.floats(q, [q.length / (heads * dim), heads, dim]);
  }

  /** The first prompt is done: its last queries are seen. */
  observe(q: Float32Array): void {
    using queries = this.queries(q);
    this.channels.observe(layerEnd(this.cache, { queries }));
  }

  /** Chooses channels and prunes, as at the end of the first prompt. */
  prune(): void {
    const { kv, stream } = this.cache;
    kv.encode(0, this.format.rules, (args, most) => {
      this.channels.choose({ layer: 0, stream, kv: args, rows: kv.rows(0, 0) });
      if (most > 0) this.format.encode({ stream, kv: args, keys: most, values: most });
    });
  }

  /** Attention of the newest `[m, heads, dim]` queries, whose keys are there. @param window in positions; 0: no limit */
  async attend(
    q: Float32Array,
    scale = 1 / Math.sqrt(this.#shape.dim),
    window = 0,
  ): Promise<{ out: Float32Array; lse: Float32Array }> {
    const { cache } = this;
    const { heads } = this.#shape;
    using query = this.queries(q);
    const m = query.shape[0] ?? 0;
    using out = cache.empty(query.shape);
    using lse = Tensor.empty(cache.device, 'float32', [m, heads]);
    const lens = Int32Array.of(m);
    const { stream } = cache;
    this.format.attend({ stream, out, lse, q: query, kv: cache.kv.kv(0), lens, scale, window });
    return { out: await readFloats(out, stream), lse: await readFloats(lse, stream) };
  }

  /** Scores of the channels from these queries and all rows there are, `[kvHeads, dim]`. Before rows are pruned. */
  async scores(q: Float32Array, rows = this.cache.kv.rows(0, 0)): Promise<Float32Array> {
    const { device, stream, heads, headDim, kv } = this.cache;
    using queries = this.queries(q);
    using means = Tensor.empty(device, 'float32', [heads, headDim]);
    using scores = Tensor.empty(device, 'float32', [heads, headDim]);
    thinkQueries(stream, means, queries, this.settings.groupReduce);
    thinkScores(stream, scores, means, kv.kv(0), rows);
    return await readFloats(scores, stream);
  }

  /** Rows of each head whose keys are pruned. */
  pruned(): number[] {
    const { kv, heads } = this.cache;
    return Array.from({ length: heads }, (_, head) => kv.encodedRows(0, head).keys);
  }

  /** What is stored: channels by head, and pruned keys `[kvHeads, rows, kept]`. */
  async stored(): Promise<{ channels: number[][]; keys: Float32Array }> {
    const { device, stream, kv, heads } = this.cache;
    const rows = Math.max(...this.pruned());
    using list = Tensor.empty(device, 'int32', [heads, this.kept]);
    using keys = this.cache.empty([heads, rows, this.kept]);
    thinkRead(stream, list, rows > 0 ? keys : null, kv.kv(0), this.kept);
    const all = (await list.read(stream)) as Int32Array;
    return {
      channels: Array.from({ length: heads }, (_, head) => [
        ...all.subarray(head * this.kept, (head + 1) * this.kept),
      ]),
      keys: rows > 0 ? await readFloats(keys, stream) : new Float32Array(0),
    };
  }

  dispose(): void {
    this.channels.dispose();
    this.cache.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
