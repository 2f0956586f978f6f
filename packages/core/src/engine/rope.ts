import { ops, Tensor, type Device, type Stream } from '@accel/kernels';
import { ropeFrequencies } from '../config/rope.js';
import type { ModelSpec } from '../config/spec.js';

/** Rotary frequencies on a device; what a method needs to rotate queries itself. */
export interface RopeFrequencies {
  /** float64 `[r/2]`, radians per position. */
  readonly invFreq: Tensor;
  /** Factor on cos and sin (YaRN); apply it once per rotated vector. */
  readonly scale: number;
  /** Pairs are (2c, 2c+1) instead of (c, c + r/2). */
  readonly interleaved: boolean;
}

/**
 * Frequencies of a model, cached; dynamic NTK scaling makes them depend on the tokens seen, so the cache holds the
 * entry of the last length asked for.
 */
export class RopeCache implements Disposable {
  readonly #spec: ModelSpec;
  readonly #device: Device;
  #last: { key: string; value: RopeFrequencies } | undefined;

  constructor(spec: ModelSpec, device: Device) {
    this.#spec = spec;
    this.#device = device;
  }

  /** @param length positions seen so far, the current call included */
  at(length: number): RopeFrequencies {
    const { invFreq, scale } = ropeFrequencies(this.#spec, length);
    const key = `${String(invFreq[invFreq.length - 1])}:${String(scale)}`;
    if (this.#last?.key !== key) {
      this.#last?.value.invFreq.dispose();
      const value = {
        invFreq: Tensor.from(this.#device, invFreq, [invFreq.length]),
        scale,
        interleaved: this.#spec.ropeInterleaved,
      };
      this.#last = { key, value };
    }
    return this.#last.value;
  }

  dispose(): void {
    this.#last?.value.invFreq.dispose();
    this.#last = undefined;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** cos and sin of every position, float32 `[T, r/2, 2]`. Angles are computed in double precision. */
export function ropeTable(
  stream: Stream,
  out: Tensor,
  positions: Tensor,
  frequencies: RopeFrequencies,
): void {
  ops.ropeTable(stream, out, positions, frequencies.invFreq, frequencies.scale);
}
