import {
  keepBestScores,
  type Allocator,
  type Allotment,
  type LayerEnd,
  type Selector,
} from '@accel/core';
import { ops, Tensor } from '@accel/kernels';
import { layerEnd, partSetup, readFloats, TestCache, tokenMajor } from '@accel/testkit';
import { cakekv, type CakekvOptions } from '../src/index.js';

/** Sizes of a model without weights. */
export interface LayersShape {
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly dim: number;
  readonly window: number;
}

/** One layer of a prompt, head-major as the goldens have it. */
export interface LayerPrompt {
  /** `[heads, window, dim]` */
  readonly queries: Float32Array;
  /** `[kvHeads, tokens, dim]` */
  readonly keys: Float32Array;
  /** `[kvHeads, tokens, dim]`; default: the keys. */
  readonly values?: Float32Array;
}

/** A layer that was scored and may be cut again. */
interface Open {
  readonly end: LayerEnd;
  scores: Tensor;
}

/** CakeKV's two parts on a cache of several layers, called as the engine calls them, with keys and queries from a test. */
export class Layers implements Disposable {
  readonly shape: LayersShape;
  readonly cache: TestCache;
  readonly #allocator: Allocator;
  readonly #selector: Selector;
  readonly #open = new Map<number, Open>();
  readonly #budgets = new Map<number, number>();
  readonly #tallies: readonly number[];
  #seen = 0;

  constructor(device: string, shape: LayersShape, options: CakekvOptions) {
    this.shape = shape;
    const { layers, heads, kvHeads, dim, window } = shape;
    const [budget, select] = cakekv({ observe: window, ...options });
    const tallies = select.tallies?.length ?? 0;
    this.#tallies = Array.from({ length: tallies }, (_, i) => i);
    this.cache = new TestCache(device, { heads: kvHeads, headDim: dim, layers, tallies });
    const setup = partSetup(this.cache, { layers, heads }, { tallies: this.#tallies });
    this.#allocator = budget.create(setup);
    this.#selector = select.create(setup);
  }

  /** Runs a prompt through one layer, and cuts what is to be cut. @returns what the layers were given */
  async prompt(layer: number, prompt: LayerPrompt): Promise<ReadonlyMap<number, Allotment>> {
    const { cache } = this;
    const { heads, kvHeads, dim, window } = this.shape;
    const tokens = prompt.keys.length / (kvHeads * dim);
    const values = prompt.values ?? prompt.keys;
    cache.append(
      tokenMajor(prompt.keys, [kvHeads, tokens, dim]),
      tokenMajor(values, [kvHeads, tokens, dim]),
      0,
      layer,
    );
    this.#seen = tokens;
    const rows = Math.min(window, tokens);
    using queries = cache.floats(tokenMajor(prompt.queries, [heads, rows, dim]), [
      rows,
      heads,
      dim,
    ]);
    const end = layerEnd(cache, { layer, queries });
    const { ranking } = this.#selector;
    if (ranking === undefined) throw new Error('CakeKV has a ranking');
    const { rows: average, window: own } = ranking.capacity(end);
    const now = this.#allocator.prefillEnd({ ...end, average, window: own });
    if (now === undefined || now.rows < end.rows) {
      const scores = ranking.score(end);
      if (scores !== undefined) this.#open.set(layer, { end, scores });
    }
    const given = now === undefined ? await this.#settle(layer) : new Map([[layer, now]]);
    for (const [cut, { rows: most, decode = most }] of given) {
      this.#budgets.set(cut, decode);
      const open = this.#open.get(cut);
      if (open === undefined) continue;
      const kept = keepBestScores(open.end, open.scores, Math.min(most, open.scores.shape[1] ?? 0));
      if (kept === undefined) continue;
      open.scores.dispose();
      open.scores = kept;
    }
    return given;
  }

  /**
   * A decode step in one layer: append, attend, evict. All `[heads of it, dim]`.
   * @returns attention's output `[heads, dim]`
   */
  async step(
    layer: number,
    { q, k, v }: Readonly<Record<'q' | 'k' | 'v', Float32Array>>,
  ): Promise<Float32Array> {
    const { cache } = this;
    const { heads, dim } = this.shape;
    const { stream, kv } = cache;
    const scale = 1 / Math.sqrt(dim);
    if (layer === 0) this.#seen += 1;
    cache.append(k, v, this.#seen - 1, layer);
    using query = cache.floats(q, [1, heads, dim]);
    using out = cache.empty([1, heads, dim]);
    using lse = Tensor.empty(cache.device, 'float32', [1, heads]);
    ops.attention(stream, out, lse, query, kv.kv(layer), Int32Array.of(1), { scale, causal: true });
    const options = { scale, tally: 0, reduce: 'mean', accumulate: false } as const;
    ops.tallyStep(stream, kv.kv(layer), query, lse, options);
    const budget = this.#budgets.get(layer);
    this.#selector.decodeEnd?.(
      layerEnd(cache, { layer, phase: 'decode', appended: 1, seen: this.#seen, budget }),
    );
    return await readFloats(out, stream);
  }

  async #settle(layer: number): Promise<ReadonlyMap<number, Allotment>> {
    return (await this.#allocator.settle?.(layer)) ?? new Map<number, Allotment>();
  }

  /** Rows that the layer may hold while decoding. */
  budget(layer: number): number | undefined {
    return this.#budgets.get(layer);
  }

  /** Positions of every head, the past in the order in which the original stores it, then the window. */
  async stored(layer: number): Promise<number[][]> {
    const { cache } = this;
    const rows = cache.kv.rows(layer, 0);
    using out = Tensor.empty(cache.device, 'float32', [cache.heads, rows]);
    ops.tallyRead(cache.stream, out, cache.kv.kv(layer), 1);
    const keys = await readFloats(out, cache.stream);
    const positions = await cache.positions(layer);
    return positions.map((head, h) => {
      const past = [...head.keys()].slice(0, rows - this.shape.window);
      const key = (row: number): number => keys[h * rows + row] ?? 0;
      past.sort((a, b) => key(b) - key(a) || a - b);
      return [...past.map((row) => head[row] ?? -1), ...head.slice(rows - this.shape.window)];
    });
  }

  dispose(): void {
    for (const { scores } of this.#open.values()) scores.dispose();
    this.#allocator.dispose();
    this.#selector.dispose();
    this.cache.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
