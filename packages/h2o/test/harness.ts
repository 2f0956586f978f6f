import type { LayerEnd, Selector } from '@accel/core';
import { ops, Tensor } from '@accel/kernels';
import { layerEnd, partSetup, readFloats, TestCache } from '@accel/testkit';
import { h2o, type H2oOptions } from '../src/index.js';
import { settingsFrom } from '../src/settings.js';

/** Sizes of a stream. */
export interface StreamShape {
  readonly heads: number;
  readonly kvHeads: number;
  readonly dim: number;
}

/**
 * H2O's selector on a one-layer cache, driven as the engine drives it: append, attention, the attention that rows
 * received, and the end of the layer. Queries and keys are rotated already.
 */
export class H2oHarness implements Disposable {
  readonly cache: TestCache;
  readonly #shape: StreamShape;
  readonly #selector: Selector;
  readonly #reduce: Required<H2oOptions>['groupReduce'];
  /** What a budget part lets the layer hold. */
  budget: number | undefined;
  merge: LayerEnd['merge'];
  readonly reports: Parameters<LayerEnd['report']>[0][] = [];
  seen = 0;
  #turn = -1;
  #phase: LayerEnd['phase'] = 'prefill';
  #appended = 0;

  constructor(device: string, shape: StreamShape, options: H2oOptions) {
    const { heads, kvHeads, dim } = shape;
    this.#shape = shape;
    this.cache = new TestCache(device, { heads: kvHeads, headDim: dim, tallies: 1 });
    this.#reduce = settingsFrom(options).groupReduce;
    this.#selector = h2o(options).create(partSetup(this.cache, { heads }, { tallies: [0] }));
  }

  get rows(): number {
    return this.cache.kv.rows(0, 0);
  }

  get selector(): Selector {
    return this.#selector;
  }

  /**
   * Appends `[m, heads, dim]` tokens, attends and counts; nothing is evicted yet. One token after the first turn began
   * is a decode step.
   * @param chunk tokens whose attention is counted at a time
   */
  async forward(
    q: Float32Array,
    k: Float32Array,
    v: Float32Array,
    chunk: number = Infinity,
  ): Promise<Float32Array> {
    const { heads, kvHeads, dim } = this.#shape;
    const m = q.length / (heads * dim);
    this.#phase = m === 1 && this.#turn >= 0 ? 'decode' : 'prefill';
    this.#appended = m;
    if (this.#phase === 'decode') return await this.#step(q, k, v);
    this.#turn += 1;
    this.#selector.turnStart?.({
      turn: this.#turn,
      tokens: m,
      kv: this.cache.kv,
      seen: this.seen,
    });
    // As the engine does: sums and means of chunks add up, anything else waits for all of them.
    const apart = this.#reduce === 'max' || this.#reduce === 'first';
    const reduce = apart ? 'none' : this.#reduce;
    const { stream, device, kv } = this.cache;
    using sums = Tensor.empty(device, 'float32', [apart ? heads : kvHeads, this.rows + m]);
    const outputs: Float32Array[] = [];
    for (let from = 0; from < m; from += chunk) {
      const to = Math.min(m, from + chunk);
      const part = (data: Float32Array, width: number): Float32Array =>
        data.subarray(from * width * dim, to * width * dim);
      await this.#attend(part(q, heads), part(k, kvHeads), part(v, kvHeads), (query, lse, out) => {
        const scale = 1 / Math.sqrt(dim);
        ops.columnSums(stream, sums, query, lse, kv.kv(0), { scale, reduce, accumulate: from > 0 });
        return readFloats(out, stream).then((values) => void outputs.push(values));
      });
    }
    ops.tallyAdd(stream, kv.kv(0), sums, 0, this.#reduce);
    return Float32Array.from(outputs.flatMap((values) => [...values]));
  }

  async #step(q: Float32Array, k: Float32Array, v: Float32Array): Promise<Float32Array> {
    const { stream, kv } = this.cache;
    let values: Float32Array = new Float32Array(0);
    await this.#attend(q, k, v, async (query, lse, out) => {
      const scale = 1 / Math.sqrt(this.#shape.dim);
      ops.tallyStep(stream, kv.kv(0), query, lse, {
        scale,
        tally: 0,
        reduce: this.#reduce,
        accumulate: true,
      });
      values = await readFloats(out, stream);
    });
    return values;
  }

  async #attend(
    q: Float32Array,
    k: Float32Array,
    v: Float32Array,
    count: (query: Tensor, lse: Tensor, out: Tensor) => Promise<void>,
  ): Promise<void> {
    const { heads, dim } = this.#shape;
    const { cache } = this;
    const m = q.length / (heads * dim);
    cache.append(k, v, this.seen);
    using query = cache.floats(q, [m, heads, dim]);
    using out = cache.empty([m, heads, dim]);
    using lse = Tensor.empty(cache.device, 'float32', [m, heads]);
    ops.attention(cache.stream, out, lse, query, cache.kv.kv(0), Int32Array.of(m), {
      scale: 1 / Math.sqrt(dim),
      causal: true,
    });
    this.seen += m;
    await count(query, lse, out);
  }

  /** The end of the forward: rows leave. */
  end(): void {
    const end = layerEnd(this.cache, {
      phase: this.#phase,
      turn: this.#turn,
      appended: this.#appended,
      seen: this.seen,
      budget: this.budget,
      merge: this.merge,
      report: (done) => this.reports.push(done),
    });
    if (this.#phase === 'prefill') this.#selector.prefillEnd(end);
    else this.#selector.decodeEnd?.(end);
  }

  /** Scores of all rows, `[head][row]`. */
  async scores(): Promise<number[][]> {
    const { cache, rows } = this;
    using out = Tensor.empty(cache.device, 'float32', [cache.heads, rows]);
    ops.tallyRead(cache.stream, out, cache.kv.kv(0), 0);
    const all = await readFloats(out, cache.stream);
    return Array.from({ length: cache.heads }, (_, head) => [
      ...all.subarray(head * rows, (head + 1) * rows),
    ]);
  }

  dispose(): void {
    this.#selector.dispose();
    this.cache.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
