import { argumentError } from '../errors.js';
import { MersenneTwister } from './mersenne-twister.js';

/** numpy's legacy `numpy.random.RandomState`, as far as RULER uses it: `randint` with a scalar result. */
export class NumpyRandomState {
  readonly #words = new MersenneTwister();

  /** @param seed 0 to 2^32 − 1 */
  constructor(seed: number) {
    if (!Number.isInteger(seed) || seed < 0 || seed > 0xffffffff) {
      throw argumentError(`numpy's RandomState takes a seed from 0 to 2^32 − 1, not ${seed}.`);
    }
    this.#words.seedWord(seed);
  }

  /**
   * `randint(low, high)`: the upper end is excluded. numpy masks a word to the next power of two and rejects
   * what lies above, so the number of words drawn varies.
   */
  randInt(low: number, high: number): number {
    const range = high - 1 - low;
    if (!Number.isInteger(low) || !Number.isInteger(range) || range < 0 || range >= 0xffffffff) {
      throw argumentError(
        `randInt needs whole numbers low < high less than 2^32 apart, not ${low} and ${high}.`,
      );
    }
    if (range === 0) return low;
    const mask = 0xffffffff >>> Math.clz32(range);
    let value = (this.#words.next() & mask) >>> 0;
    while (value > range) value = (this.#words.next() & mask) >>> 0;
    return low + value;
  }
}
