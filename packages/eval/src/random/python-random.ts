import { argumentError } from '../errors.js';
import { MersenneTwister } from './mersenne-twister.js';

/**
 * CPython's `random.Random` (3.11): the same seed gives the same numbers, in the same order, as Python does.
 * RULER's published data depends on it draw for draw.
 *
 * @example
 * const random = new PythonRandom(42);
 * random.random(); // 0.6394267984578837
 */
export class PythonRandom {
  readonly #words = new MersenneTwister();

  /** @param seed a non-negative integer; a `bigint` for seeds beyond 2^53 */
  constructor(seed: number | bigint) {
    this.seed(seed);
  }

  /** `random.seed(int)`: starts the stream again. */
  seed(seed: number | bigint): void {
    if (typeof seed === 'number' && !Number.isSafeInteger(seed)) {
      throw argumentError(`The seed ${seed} is not an integer; give an integer or a bigint.`);
    }
    let rest = BigInt(seed);
    if (rest < 0n) rest = -rest;
    const key: number[] = [];
    do {
      key.push(Number(rest & 0xffffffffn));
      rest >>= 32n;
    } while (rest > 0n);
    this.#words.seedKey(key);
  }

  /** `random.random()`: 53 random bits in [0, 1). */
  random(): number {
    const high = this.#words.next() >>> 5;
    const low = this.#words.next() >>> 6;
    return (high * 67108864 + low) / 9007199254740992;
  }

  /** `random.getrandbits(bits)` for 1 to 32 bits. */
  getRandBits(bits: number): number {
    if (!Number.isInteger(bits) || bits < 1 || bits > 32) {
      throw argumentError(
        `getRandBits draws 1 to 32 bits, not ${bits}; use getRandBitsBig for more.`,
      );
    }
    return this.#words.next() >>> (32 - bits);
  }

  /** `random.getrandbits(bits)` for any number of bits. */
  getRandBitsBig(bits: number): bigint {
    let value = 0n;
    for (let done = 0; done < bits; done += 32) {
      const take = Math.min(32, bits - done);
      value |= BigInt(this.getRandBits(take)) << BigInt(done);
    }
    return value;
  }

  /** Uniform over [0, n), by rejection: `random._randbelow(n)`. @param n 1 to 2^32 − 1 */
  randBelow(n: number): number {
    if (!Number.isInteger(n) || n < 1 || n > 0xffffffff) {
      throw argumentError(`randBelow needs a whole number from 1 to 2^32 − 1, not ${n}.`);
    }
    const bits = 32 - Math.clz32(n);
    let value = this.getRandBits(bits);
    while (value >= n) value = this.getRandBits(bits);
    return value;
  }

  /** `random.randint(low, high)`: both ends included. */
  randInt(low: number, high: number): number {
    return low + this.randBelow(high - low + 1);
  }

  /** `random.choice(items)`. */
  choice<T>(items: ArrayLike<T>): T {
    return at(items, this.randBelow(items.length));
  }

  /** `random.choices(items, k=count)`: with replacement, equal weights. */
  choices<T>(items: ArrayLike<T>, count: number): T[] {
    return Array.from({ length: count }, () => at(items, Math.floor(this.random() * items.length)));
  }

  /** `random.sample(items, count)`: without replacement, in the order drawn. */
  sample<T>(items: ArrayLike<T>, count: number): T[] {
    return this.sampleIndices(items.length, count).map((index) => at(items, index));
  }

  /** `random.sample(range(n), count)`. */
  sampleIndices(n: number, count: number): number[] {
    if (count > n || count < 0) {
      throw argumentError(`Cannot draw ${count} different items out of ${n}.`);
    }
    // CPython keeps a list of the remaining items when that is smaller than a set of the drawn ones.
    let setSize = 21;
    if (count > 5) setSize += 4 ** Math.ceil(Math.log(count * 3) / Math.log(4));
    if (n <= setSize) {
      const pool = Array.from({ length: n }, (_, i) => i);
      return Array.from({ length: count }, (_, i) => {
        const j = this.randBelow(n - i);
        const drawn = at(pool, j);
        pool[j] = at(pool, n - i - 1);
        return drawn;
      });
    }
    const drawn = new Set<number>();
    while (drawn.size < count) drawn.add(this.randBelow(n));
    return [...drawn];
  }

  /** `random.shuffle(items)`, in place. */
  shuffle(items: unknown[]): void {
    for (let i = items.length - 1; i > 0; i--) {
      const j = this.randBelow(i + 1);
      const held = at(items, i);
      items[i] = at(items, j);
      items[j] = held;
    }
  }
}

function at<T>(items: ArrayLike<T>, index: number): T {
  return items[index] as T;
}
