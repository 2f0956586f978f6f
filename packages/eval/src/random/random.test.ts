import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { sharedFile } from '../testing/shared.js';
import { DEPTHS } from '../ruler/niah.js';
import { randomUuid } from '../ruler/uuid.js';
import { NumpyRandomState } from './numpy-random-state.js';
import { PythonRandom } from './python-random.js';

const vectors = sharedFile('data/ruler/python-rng-vectors.json');

/** Repeats a draw as often as the vector is long. */
function draws<T>(expected: readonly unknown[], draw: () => T): T[] {
  return expected.map(() => draw());
}

describe.skipIf(vectors.missing !== undefined)(
  `CPython and numpy vectors${vectors.missing ? `: ${vectors.missing}` : ''}`,
  () => {
    const v =
      vectors.missing === undefined
        ? (JSON.parse(readFileSync(vectors.path, 'utf8')) as Record<string, unknown[]>)
        : {};
    const list = (key: string): unknown[] => v[key] ?? [];

    it.each([
      ['random', (r: PythonRandom) => r.random()],
      ['getrandbits128', (r: PythonRandom) => String(r.getRandBitsBig(128))],
      ['uuid4_from_getrandbits', (r: PythonRandom) => randomUuid(r)],
      ['randint_1000000_9999999', (r: PythonRandom) => r.randInt(1_000_000, 9_999_999)],
      ['choice_range100', (r: PythonRandom) => r.choice(Array.from({ length: 100 }, (_, i) => i))],
      ['choices_A_Z_k5', (r: PythonRandom) => r.choices('ABCDEFGHIJKLMNOPQRSTUVWXYZ', 5).join('')],
      ['sample_range40_k4', (r: PythonRandom) => r.sampleIndices(40, 4)],
      ['sample_range1000_k4', (r: PythonRandom) => r.sampleIndices(1000, 4)],
    ])('%s', (key, draw) => {
      const random = new PythonRandom(42);
      expect(list(key).length).toBeGreaterThan(0);
      expect(draws(list(key), () => draw(random))).toEqual(list(key));
    });

    it('shuffle', () => {
      const items = Array.from({ length: 10 }, (_, i) => i);
      new PythonRandom(42).shuffle(items);
      expect(items).toEqual(list('Random42_shuffle_range10'));
    });

    it('numpy randint', () => {
      const random = new NumpyRandomState(42);
      const expected = list('numpy_randint_10000_99999');
      expect(draws(expected, () => random.randInt(10000, 99999))).toEqual(expected);
    });

    it('depths', () => {
      expect(DEPTHS).toEqual(list('depths40'));
    });
  },
);

describe('PythonRandom', () => {
  it('accepts seeds of any size and ignores the sign, as CPython does', () => {
    expect(new PythonRandom(-7).random()).toBe(new PythonRandom(7).random());
    expect(new PythonRandom(2n ** 80n).random()).not.toBe(new PythonRandom(2n ** 81n).random());
  });

  it('samples without replacement, in range', () => {
    fc.assert(
      fc.property(
        fc.nat(),
        fc.integer({ min: 1, max: 200 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (seed, n, share) => {
          const count = Math.floor(n * share);
          const drawn = new PythonRandom(seed).sampleIndices(n, count);
          expect(new Set(drawn).size).toBe(count);
          expect(drawn.every((i) => i >= 0 && i < n)).toBe(true);
        },
      ),
    );
  });

  it('shuffles into a permutation', () => {
    fc.assert(
      fc.property(fc.nat(), fc.array(fc.integer()), (seed, items) => {
        const shuffled = [...items];
        new PythonRandom(seed).shuffle(shuffled);
        expect(shuffled.sort((a, b) => a - b)).toEqual([...items].sort((a, b) => a - b));
      }),
    );
  });

  it('refuses to draw what is not there', () => {
    const random = new PythonRandom(1);
    expect(() => random.randBelow(0)).toThrow(/from 1 to/);
    expect(() => random.sampleIndices(3, 4)).toThrow(/4 different items out of 3/);
    expect(() => new PythonRandom(0.5)).toThrow(/not an integer/);
  });
});
