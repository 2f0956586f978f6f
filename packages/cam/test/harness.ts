import type { AttendCall, ModelSpec, RopeFrequencies, SelectPart, Selector } from '@accel/core';
import { ops, Tensor, type HeadReduce } from '@accel/kernels';
import { layerEnd, partSetup, readFloats, TestCache } from '@accel/testkit';
import type { CamOptions } from '../src/index.js';
import { CamMerger } from '../src/merger.js';
import { settingsFrom } from '../src/settings.js';

/** Sizes of a stream. */
export interface StreamShape {
  readonly heads: number;
  readonly kvHeads: number;
  readonly dim: number;
  /** Base of the rotary frequencies; without one nothing is rotated. */
  readonly base?: number;
}

/** What one token's eviction did, by head; undefined while nothing left. */
export interface Merged {
  readonly p: Float32Array;
  readonly merged: Int32Array;
}

const REDUCE: HeadReduce = 'mean';

/**
 * A selector and CaM on a one-layer cache, driven as the engine drives them. Keys and queries are given before rotation,
 * and so are random numbers, one for each head and token.
 */
export class CamHarness implements Disposable {
  readonly cache: TestCache;
  readonly #shape: StreamShape;
  readonly #selector: Selector;
  readonly #merger: CamMerger;
  readonly #countsPrompt: boolean;
  readonly #frequencies: RopeFrequencies;
  readonly #uniforms: Tensor;
  readonly #p: Tensor;
  readonly #merged: Tensor;
  seen = 0;
  #victims = 0;

  constructor(device: string, shape: StreamShape, select: SelectPart, options: CamOptions) {
    const { heads, kvHeads, dim, base } = shape;
    this.#shape = shape;
    this.cache = new TestCache(device, { heads: kvHeads, headDim: dim, tallies: 1 });
    const opened = this.cache.device;
    const invFreq = Float64Array.from({ length: dim / 2 }, (_, c) =>
      base === undefined ? 0 : base ** ((-2 * c) / dim),
    );
    this.#frequencies = {
      invFreq: Tensor.from(opened, invFreq, [dim / 2]),
      scale: 1,
      interleaved: false,
    };
    const spec: Partial<ModelSpec> = { heads, rotaryDim: dim, rope: { kind: 'default' } };
    const rope = (): RopeFrequencies => this.#frequencies;
    // H2O and CaM ask for the same number.
    const setup = partSetup(this.cache, spec, { rope, tallies: [0] });
    const settings = settingsFrom(options);
    this.#countsPrompt = settings.statistic === 'stream';
    this.#selector = select.create(setup);
    this.#uniforms = Tensor.empty(opened, 'float32', [kvHeads]);
    this.#p = Tensor.empty(opened, 'float32', [kvHeads]);
    this.#merged = Tensor.empty(opened, 'int32', [kvHeads]);
    const [uniforms, p, merged] = [this.#uniforms, this.#p, this.#merged];
    this.#merger = new CamMerger(setup, settings, { uniforms, p, merged });
    this.#selector.turnStart?.({ turn: 0, tokens: 1, kv: this.cache.kv, seen: 0 });
  }

  get rows(): number {
    return this.cache.kv.rows(0, 0);
  }

  /**
   * Tokens `[m, heads, dim]`: a prompt when there are several, else a decode step with its eviction.
   * @param u random numbers of the token, one for each kv head
   */
  async forward(
    q: Float32Array,
    k: Float32Array,
    v: Float32Array,
    u: Float32Array,
  ): Promise<{ out: Float32Array; gates: Merged | undefined; gone: number[][] }> {
    const { heads, kvHeads, dim } = this.#shape;
    const { cache } = this;
    const { stream, kv } = cache;
    const m = q.length / (heads * dim);
    const phase = m === 1 ? 'decode' : 'prefill';
    const positions = Int32Array.from({ length: m }, (_, i) => this.seen + i);
    using where = Tensor.from(cache.device, positions, [m]);
    using table = Tensor.empty(cache.device, 'float32', [m, dim / 2, 2]);
    using query = cache.floats(q, [m, heads, dim]);
    using key = cache.floats(k, [m, kvHeads, dim]);
    using value = cache.floats(v, [m, kvHeads, dim]);
    using out = cache.empty([m, heads, dim]);
    using lse = Tensor.empty(cache.device, 'float32', [m, heads]);
    ops.ropeTable(stream, table, where, this.#frequencies.invFreq, 1);
    ops.rope(stream, query, table, false);
    ops.rope(stream, key, table, false);
    kv.reserve(0, m);
    ops.kvAppend(stream, kv.kv(0), key, value, where, Int32Array.of(m));
    using sums = Tensor.empty(cache.device, 'float32', [kvHeads, this.rows]);
    const call: AttendCall = {
      layer: 0,
      phase,
      out,
      lse,
      q: query,
      kv,
      rows: this.rows,
      m,
      firstPosition: this.seen,
      scale: 1 / Math.sqrt(dim),
      window: 0,
      stream,
      attended: (rotated, begin, end) => {
        this.#count(call, rotated, sums, begin, end);
      },
    };
    if (this.#selector.attend === undefined) {
      const lens = Int32Array.of(m);
      ops.attention(stream, out, lse, query, kv.kv(0), lens, { scale: call.scale, causal: true });
      this.#count(call, query, sums, 0, this.rows);
    } else {
      this.#selector.attend(call);
    }
    if (m > 1 && this.#countsPrompt) ops.tallyAdd(stream, kv.kv(0), sums, 0, REDUCE);
    this.seen += m;
    const before = await cache.positions();
    const gates = await this.#end(phase, m, u);
    const after = await cache.positions();
    const gone = before.map((rows, head) =>
      rows.filter((position) => !after[head]?.includes(position)),
    );
    return { out: await readFloats(out, stream), gates, gone };
  }

  #count(call: AttendCall, q: Tensor, sums: Tensor, begin: number, end: number): void {
    const { stream, kv, m, scale, lse } = call;
    if (lse === null) throw new Error('this call has asked for it');
    if (m === 1) {
      const ranges = Int32Array.of(begin, end);
      const how = { scale, tally: 0, reduce: REDUCE, accumulate: true, ranges };
      ops.tallyStep(stream, kv.kv(0), q, lse, how);
    } else {
      const range = [begin, end] as const;
      ops.columnSums(stream, sums, q, lse, kv.kv(0), { scale, reduce: 'mean', range });
    }
  }

  async #end(
    phase: 'prefill' | 'decode',
    appended: number,
    u: Float32Array,
  ): Promise<Merged | undefined> {
    const { stream } = this.cache;
    this.#uniforms.write(stream, u);
    const victims = this.#victims;
    const end = layerEnd(this.cache, { phase, turn: 0, appended, seen: this.seen });
    const merge = (victim: number | Tensor): void => {
      this.#victims += 1;
      this.#merger.merge(end, victim);
    };
    if (phase === 'prefill') this.#selector.prefillEnd({ ...end, merge: undefined });
    else this.#selector.decodeEnd?.({ ...end, merge });
    if (victims === this.#victims) return undefined;
    return {
      p: await readFloats(this.#p, stream),
      merged: (await this.#merged.read(stream)) as Int32Array,
    };
  }

  /** Values and attention of all rows, `[kvHeads, rows, dim]` and `[kvHeads, rows]`. */
  async contents(): Promise<{ values: Float32Array; scores: Float32Array }> {
    const { cache, rows } = this;
    const { stream, kv } = cache;
    using values = cache.empty([cache.heads, rows, cache.headDim]);
    using scores = Tensor.empty(cache.device, 'float32', [cache.heads, rows]);
    ops.kvRead(stream, null, values, null, kv.kv(0));
    ops.tallyRead(stream, scores, kv.kv(0), 0);
    return {
      values: await readFloats(values, stream),
      scores: await readFloats(scores, stream),
    };
  }

  dispose(): void {
    this.#selector.dispose();
    this.#merger.dispose();
    for (const tensor of [this.#frequencies.invFreq, this.#uniforms, this.#p, this.#merged])
      tensor.dispose();
    this.cache.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
