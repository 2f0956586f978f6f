const WORDS = 624;
const SHIFT = 397;
const UPPER_BIT = 0x80000000;
const LOWER_BITS = 0x7fffffff;
const TWIST = 0x9908b0df;

/**
 * The MT19937 generator (Matsumoto and Nishimura, "Mersenne Twister", ACM TOMACS 8(1), 1998): a stream of
 * unsigned 32-bit words. CPython's `random` and numpy's legacy `RandomState` are both built on it and differ
 * only in how they seed it and how they turn words into numbers.
 */
export class MersenneTwister {
  readonly #state = new Uint32Array(WORDS);
  #next = WORDS;

  /** Seeds from one 32-bit word, as numpy's `RandomState(seed)` does. */
  seedWord(seed: number): void {
    const state = this.#state;
    state[0] = seed >>> 0;
    for (let i = 1; i < WORDS; i++) {
      const last = word(state, i - 1);
      state[i] = Math.imul(last ^ (last >>> 30), 1812433253) + i;
    }
    this.#next = WORDS;
  }

  /** Seeds from a key of 32-bit words, as CPython's `random.seed(int)` does. */
  seedKey(key: readonly number[]): void {
    this.seedWord(19650218);
    const state = this.#state;
    let i = 1;
    let j = 0;
    for (let k = Math.max(WORDS, key.length); k > 0; k--) {
      const last = word(state, i - 1);
      state[i] = (word(state, i) ^ Math.imul(last ^ (last >>> 30), 1664525)) + (key[j] ?? 0) + j;
      j = (j + 1) % key.length;
      i = this.#advance(i);
    }
    for (let k = WORDS - 1; k > 0; k--) {
      const last = word(state, i - 1);
      state[i] = (word(state, i) ^ Math.imul(last ^ (last >>> 30), 1566083941)) - i;
      i = this.#advance(i);
    }
    state[0] = UPPER_BIT;
    this.#next = WORDS;
  }

  /** The next word, uniform over [0, 2^32). */
  next(): number {
    if (this.#next === WORDS) this.#refill();
    let y = word(this.#state, this.#next++);
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    y ^= y >>> 18;
    return y >>> 0;
  }

  #advance(i: number): number {
    if (i + 1 < WORDS) return i + 1;
    this.#state[0] = word(this.#state, WORDS - 1);
    return 1;
  }

  #refill(): void {
    const state = this.#state;
    for (let i = 0; i < WORDS; i++) {
      const y = (word(state, i) & UPPER_BIT) | (word(state, (i + 1) % WORDS) & LOWER_BITS);
      state[i] = word(state, (i + SHIFT) % WORDS) ^ (y >>> 1) ^ (y & 1 ? TWIST : 0);
    }
    this.#next = 0;
  }
}

/** The caller's index is in range by construction; the fallback only satisfies noUncheckedIndexedAccess. */
function word(state: Uint32Array, index: number): number {
  return state[index] ?? 0;
}
