import type { ModelSpec, RopeFrequencies, Selector } from '@accel/core';
import { ops, Tensor } from '@accel/kernels';
import { layerEnd, partSetup, readFloats, TestCache } from '@accel/testkit';
import { streamingllm, type StreamingllmOptions } from '../src/index.js';

/** Sizes of a stream. */
export interface StreamShape {
  readonly heads: number;
  readonly kvHeads: number;
  readonly dim: number;
  /** Base of the rotary frequencies; without one nothing is rotated. */
  readonly base?: number;
  /** Numbers that follow every row. Default 0. */
  readonly tallies?: number;
  /** Sliding window of the model. Default none. */
  readonly window?: number;
}

/**
 * StreamingLLM's selector on a one-layer cache, driven as the engine drives it, with queries and keys given before
 * rotation.
 */
export class StreamHarness implements Disposable {
  readonly cache: TestCache;
  readonly #shape: StreamShape;
  readonly #selector: Selector;
  readonly #frequencies: RopeFrequencies;
  /** Position of the next token. A test may move it to place the rest of the stream somewhere else. */
  seen = 0;
  /** What a part that counts attention is told: with which queries rows `[begin, end)` were attended. */
  attended:
    ((q: Tensor, lse: Tensor, begin: number, end: number, window: number) => void) | undefined;
  #turn = 0;

  constructor(device: string, shape: StreamShape, options: StreamingllmOptions) {
    const { heads, kvHeads, dim, base, tallies = 0 } = shape;
    this.#shape = shape;
    this.cache = new TestCache(device, { heads: kvHeads, headDim: dim, tallies });
    const invFreq = Float64Array.from({ length: dim / 2 }, (_, c) =>
      base === undefined ? 0 : base ** ((-2 * c) / dim),
    );
    this.#frequencies = {
      invFreq: Tensor.from(this.cache.device, invFreq, [dim / 2]),
      scale: 1,
      interleaved: false,
    };
    const spec: Partial<ModelSpec> = { heads, rotaryDim: dim, rope: { kind: 'default' } };
    const rope = (): RopeFrequencies => this.#frequencies;
    this.#selector = streamingllm(options).create(partSetup(this.cache, spec, { rope }));
  }

  get rows(): number {
    return this.cache.kv.rows(0, 0);
  }

  /** A turn of `tokens` begins. */
  turnStart(tokens: number): void {
    this.#selector.turnStart?.({ turn: this.#turn++, tokens, kv: this.cache.kv, seen: this.seen });
  }

  /**
   * Appends tokens and attends: `[m, heads, dim]` in, `[m, heads, dim]` out. Nothing is evicted yet.
   * @param read false: only enqueue, the result is thrown away
   */
  async forward(
    q: Float32Array,
    k: Float32Array,
    v: Float32Array,
    read = true,
  ): Promise<Float32Array> {
    const { heads, kvHeads, dim } = this.#shape;
    const { cache } = this;
    const { stream, kv } = cache;
    const m = q.length / (heads * dim);
    const positions = Int32Array.from({ length: m }, (_, i) => this.seen + i);
    using where = Tensor.from(cache.device, positions, [m]);
    using table = Tensor.empty(cache.device, 'float32', [m, dim / 2, 2]);
    using query = cache.floats(q, [m, heads, dim]);
    using key = cache.floats(k, [m, kvHeads, dim]);
    using value = cache.floats(v, [m, kvHeads, dim]);
    using out = cache.empty([m, heads, dim]);
    using lse = Tensor.empty(cache.device, 'float32', [m, heads]);
    const { attended } = this;
    ops.ropeTable(stream, table, where, this.#frequencies.invFreq, 1);
    ops.rope(stream, query, table, false);
    ops.rope(stream, key, table, false);
    kv.reserve(0, m);
    ops.kvAppend(stream, kv.kv(0), key, value, where, Int32Array.of(m));
    const limit = this.#shape.window ?? 0;
    const call = {
      layer: 0,
      phase: m === 1 ? ('decode' as const) : ('prefill' as const),
      out,
      lse: attended === undefined ? null : lse,
      q: query,
      kv,
      rows: this.rows,
      m,
      firstPosition: this.seen,
      scale: 1 / Math.sqrt(dim),
      window: limit,
      stream,
      attended: (rotated: Tensor, begin: number, end: number, window = limit) =>
        attended?.(rotated, lse, begin, end, window),
    };
    if (this.#selector.attend === undefined) {
      ops.attention(stream, out, null, query, kv.kv(0), Int32Array.of(m), {
        scale: call.scale,
        causal: true,
        window: limit,
      });
    } else {
      this.#selector.attend(call);
    }
    this.seen += m;
    return read ? await readFloats(out, stream) : new Float32Array(0);
  }

  /** The end of a prompt or step. */
  end(phase: 'prefill' | 'decode'): void {
    const end = layerEnd(this.cache, {
      phase,
      turn: this.#turn - 1,
      appended: 1,
      seen: this.seen,
    });
    if (phase === 'prefill') this.#selector.prefillEnd(end);
    else this.#selector.decodeEnd?.(end);
  }

  dispose(): void {
    this.#selector.dispose();
    this.#frequencies.invFreq.dispose();
    this.cache.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
