import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { allocate, preference } from '../src/allocation.js';

/** The cascade as the allocator does it: what is stored of each layer after the last stage. */
function cascade(preferences: readonly number[], total: number, most: number): number[] {
  const stored: number[] = [];
  for (let stage = 1; stage <= preferences.length; stage++) {
    const shares = allocate(preferences.slice(0, stage), total, most);
    for (const [layer, rows] of shares.entries())
      stored[layer] = Math.min(stored[layer] ?? most, rows);
  }
  return stored;
}

const sum = (list: readonly number[]): number => list.reduce((a, b) => a + b, 0);

describe('preference', () => {
  it('is the published example', () => {
    expect(preference(1.879001, 0.01, 1.6, 0.4)).toBeCloseTo(1.483216e-5, 10);
  });

  it('is 0 where there is nothing to prefer', () => {
    expect(preference(0, 1, 1, 1)).toBe(0);
    expect(preference(-1e-10, 1, 1.6, 1)).toBe(0);
    expect(preference(NaN, 1, 1, 1)).toBe(0);
    expect(preference(1e30, 1e30, 1, 1)).toBe(0);
  });
});

describe('allocate', () => {
  it('shares equally when no layer has a preference', () => {
    expect(allocate([0, 0, 0], 20, 100)).toEqual([7, 7, 6]);
    expect(allocate([0, 0, 0], 20, 100)).toEqual(allocate([1, 1, 1], 20, 100));
  });

  const prompts = fc
    .tuple(
      fc.array(fc.float({ min: Math.fround(1e-6), max: 1000, noNaN: true }), {
        minLength: 1,
        maxLength: 40,
      }),
      fc.integer({ min: 1, max: 300 }),
      fc.integer({ min: 1, max: 3000 }),
    )
    .map(([preferences, average, more]) => ({ preferences, average, most: average + more }));

  it('gives whole numbers of rows, at most what there are, and never more than the total', () => {
    fc.assert(
      fc.property(prompts, ({ preferences, average, most }) => {
        const total = average * preferences.length;
        const shares = allocate(preferences, total, most);
        for (const rows of shares) {
          expect(Number.isSafeInteger(rows)).toBe(true);
          expect(rows).toBeGreaterThanOrEqual(0);
          expect(rows).toBeLessThanOrEqual(most);
        }
        expect(sum(shares)).toBeLessThanOrEqual(total);
      }),
      { numRuns: 2000 },
    );
  });

  it('gives away the whole total while no layer is full', () => {
    fc.assert(
      fc.property(prompts, ({ preferences, average }) => {
        const total = average * preferences.length;
        expect(sum(allocate(preferences, total, total))).toBe(total);
      }),
      { numRuns: 2000 },
    );
  });

  it('gives more to a layer with a larger preference, up to the row that does not divide', () => {
    fc.assert(
      fc.property(prompts, ({ preferences, average }) => {
        const total = average * preferences.length;
        const shares = allocate(preferences, total, total);
        const order = [...preferences.keys()].sort(
          (a, b) => (preferences[a] ?? 0) - (preferences[b] ?? 0),
        );
        for (const [i, layer] of order.entries()) {
          const next = order[i + 1];
          if (next !== undefined)
            expect(shares[layer] ?? 0).toBeLessThanOrEqual((shares[next] ?? 0) + 1);
        }
      }),
    );
  });
});

describe('the cascade', () => {
  it('ends where one allocation at the end ends, up to rounding, while no layer is full', () => {
    fc.assert(
      fc.property(
        fc.array(fc.float({ min: Math.fround(0.01), max: 100, noNaN: true }), {
          minLength: 1,
          maxLength: 24,
        }),
        fc.integer({ min: 1, max: 300 }),
        (preferences, average) => {
          const total = average * preferences.length;
          const stored = cascade(preferences, total, total);
          const once = allocate(preferences, total, total);
          for (const [layer, rows] of stored.entries())
            expect(Math.abs(rows - (once[layer] ?? 0))).toBeLessThanOrEqual(1);
          expect(total - sum(stored)).toBeLessThanOrEqual(preferences.length);
        },
      ),
    );
  });

  it('never holds more than the total after a stage, or what the layers have', () => {
    fc.assert(
      fc.property(
        fc.array(fc.float({ min: Math.fround(1e-6), max: 1000, noNaN: true }), {
          minLength: 1,
          maxLength: 24,
        }),
        fc.integer({ min: 1, max: 300 }),
        fc.integer({ min: 1, max: 2000 }),
        (preferences, average, more) => {
          const total = average * preferences.length;
          for (let stage = 1; stage <= preferences.length; stage++) {
            const stored = cascade(preferences.slice(0, stage), total, average + more);
            expect(sum(stored)).toBeLessThanOrEqual(Math.min(total, stage * (average + more)));
          }
        },
      ),
    );
  });
});
