import { AccelError, ops, Tensor, type Device, type Stream } from '@accel/kernels';
import { uniformFloat64 } from 'pure-rand/distribution/uniformFloat64';
import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus';
import type { RandomGenerator } from 'pure-rand/types/RandomGenerator';

/** How the next token is drawn. Filters apply in the order temperature, top-k, top-p, min-p. */
export interface SamplingOptions {
  /** 0 = greedy: the token with the largest logit, the lowest id on ties. Default 0. */
  temperature?: number;
  /** Keep the k most likely tokens; 0 = all. Default 0. */
  topK?: number;
  /** Keep the smallest set of tokens whose probabilities sum to at least this, in (0, 1]. Default 1. */
  topP?: number;
  /** Drop tokens less likely than this share of the most likely one, in [0, 1). Default 0. */
  minP?: number;
  /** Seed of the random numbers, a 32-bit integer. Default 0: runs repeat. */
  seed?: number;
}

/** Draws tokens of one sequence on the device; only the id comes back. */
export class Sampler implements Disposable {
  readonly #device: Device;
  readonly #parameters: readonly [Tensor, Tensor, Tensor, Tensor];
  readonly #random: RandomGenerator | undefined;
  #uniform: Tensor;

  constructor(device: Device, options: SamplingOptions) {
    const { temperature = 0, topK = 0, topP = 1, minP = 0, seed = 0 } = options;
    check(
      Number.isFinite(temperature) && temperature >= 0,
      'temperature',
      temperature,
      'a number of at least 0',
    );
    check(
      Number.isInteger(topK) && topK >= 0,
      'topK',
      topK,
      'a whole number of at least 0 (0 = off)',
    );
    check(topP > 0 && topP <= 1, 'topP', topP, 'a number in (0, 1]');
    check(minP >= 0 && minP < 1, 'minP', minP, 'a number in [0, 1)');
    check(Number.isInteger(seed), 'seed', seed, 'a whole number');
    this.#device = device;
    this.#random = temperature > 0 ? xoroshiro128plus(seed) : undefined;
    this.#parameters = [
      Tensor.from(device, Float32Array.of(temperature), [1]),
      Tensor.from(device, Int32Array.of(topK), [1]),
      Tensor.from(device, Float32Array.of(topP), [1]),
      Tensor.from(device, Float32Array.of(minP), [1]),
    ];
    this.#uniform = Tensor.from(device, Float64Array.of(0), [1]);
  }

  /** Enqueues the draw of one id into `out` (int32 `[1]`) from `logits` (float32 `[1, vocab]`). */
  enqueue(stream: Stream, out: Tensor, logits: Tensor): void {
    if (this.#random !== undefined) {
      this.#uniform.dispose();
      this.#uniform = Tensor.from(this.#device, Float64Array.of(uniformFloat64(this.#random)), [1]);
    }
    const [temperature, topK, topP, minP] = this.#parameters;
    ops.sample(stream, out, logits, temperature, topK, topP, minP, this.#uniform);
  }

  dispose(): void {
    for (const parameter of this.#parameters) parameter.dispose();
    this.#uniform.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function check(good: boolean, name: string, value: number, want: string): void {
  if (good) return;
  throw new AccelError('ERR_ACCEL_ARGUMENT', `${name} is ${String(value)}; give ${want}.`);
}
