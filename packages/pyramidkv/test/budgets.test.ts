import { errorWith } from '@accel/testkit';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fitRows } from '../src/budgets.js';
import { pyramidPlan, pyramidRows, type PyramidShape } from '../src/index.js';

const sum = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0);

/** Shapes that make sense, small and large, with every branch among them. */
const shapes = fc
  .record({
    window: fc.integer({ min: 0, max: 100 }),
    past: fc.oneof(fc.integer({ min: 1, max: 60 }), fc.integer({ min: 1, max: 5000 })),
    more: fc.oneof(fc.integer({ min: -3, max: 300 }), fc.integer({ min: 0, max: 100_000 })),
    layers: fc.integer({ min: 1, max: 128 }),
    beta: fc.integer({ min: 1, max: 200 }),
  })
  .map(({ window, past, more, layers, beta }): PyramidShape => {
    const capacity = window + past;
    return { capacity, window, rows: Math.max(1, capacity + more), layers, beta };
  });

describe('exact budgets', () => {
  it('spend what there is: no row more or less, whatever the shape', () => {
    fc.assert(
      fc.property(shapes, (shape) => {
        const { capacity, rows, layers } = shape;
        expect(sum(pyramidRows(shape))).toBe(layers * Math.min(rows, capacity));
      }),
      { numRuns: 2000 },
    );
  });

  it('never grow with depth, hold the window and leave no layer empty', () => {
    fc.assert(
      fc.property(shapes, (shape) => {
        const kept = pyramidRows(shape);
        const least = Math.min(shape.rows, Math.max(1, shape.window));
        const wrong = kept.findIndex(
          (rows, layer) =>
            !Number.isSafeInteger(rows) || rows > (kept[layer - 1] ?? shape.rows) || rows < least,
        );
        expect([kept.length, wrong]).toEqual([shape.layers, -1]);
      }),
      { numRuns: 2000 },
    );
  });

  it('lie within a row of the paper’s line', () => {
    fc.assert(
      fc.property(shapes, (shape) => {
        const { capacity, window, rows, layers, beta } = shape;
        const average = capacity - window;
        // Where a window-less layer would be left with nothing, one of its rows is another's.
        fc.pre(
          rows >= Math.max(capacity, 2 * average) && layers > 1 && (window > 0 || average >= beta),
        );
        const most = Math.min(2 * average - average / beta, rows - window);
        const least = 2 * average - most;
        for (const [layer, kept] of pyramidRows(shape).entries()) {
          const point = most - (layer * (most - least)) / (layers - 1);
          expect(Math.abs(kept - window - point)).toBeLessThan(1 + 1e-6);
        }
      }),
      { numRuns: 1000 },
    );
  });

  it.each([
    { rows: 8192, capacity: 128, window: 8, layers: 80, first: 242, last: 14 },
    { rows: 8192, capacity: 2048, window: 8, layers: 32, first: 3986, last: 110 },
    { rows: 240, capacity: 128, window: 8, layers: 32, first: 240, last: 16 },
  ])('of $capacity of $rows rows in $layers layers go from $first to $last', (shape) => {
    const kept = pyramidRows({ ...shape, beta: 20 });
    expect([kept[0], kept.at(-1)]).toEqual([shape.first, shape.last]);
    expect(sum(kept)).toBe(shape.layers * shape.capacity);
  });
});

describe('reference budgets', () => {
  it('never spend less than the budget, and a third more at worst in sensible shapes', () => {
    fc.assert(
      fc.property(shapes, (shape) => {
        const { capacity, rows, layers } = shape;
        const spent = sum(pyramidRows(shape, 'reference'));
        expect(spent).toBeGreaterThanOrEqual(layers * Math.min(rows, capacity));
      }),
      { numRuns: 1000 },
    );
    const deep = { capacity: 128, window: 8, rows: 8192, layers: 80, beta: 20 };
    expect(sum(pyramidRows(deep, 'reference')) - 80 * 8).toBe(12_400);
  });

  it('agree with the exact ones where nothing is rounded', () => {
    const shape = { capacity: 48, window: 8, rows: 500, layers: 5, beta: 20 };
    expect(pyramidRows(shape, 'reference')).toEqual([86, 67, 48, 29, 10]);
    expect(pyramidRows(shape)).toEqual([86, 67, 48, 29, 10]);
  });
});

describe('one layer', () => {
  it.each(['exact', 'reference', 'kvpress'] as const)('gets the whole budget: %s', (mode) => {
    const shape = { capacity: 64, window: 8, rows: 500, layers: 1, beta: 20 };
    expect(pyramidRows(shape, mode)).toEqual([64]);
  });
});

describe('fitting', () => {
  it('keeps the sum, or all there is', () => {
    const layers = fc.array(fc.tuple(fc.nat(500), fc.nat(500)), { minLength: 1, maxLength: 40 });
    fc.assert(
      fc.property(layers, (pairs) => {
        const [rows, available] = [pairs.map(([kept]) => kept), pairs.map(([, there]) => there)];
        const fitted = fitRows(rows, available);
        expect(sum(fitted)).toBe(Math.min(sum(rows), sum(available)));
        for (const [i, kept] of fitted.entries()) {
          expect(kept).toBeLessThanOrEqual(available[i] ?? 0);
          expect(kept).toBeGreaterThanOrEqual(Math.min(rows[i] ?? 0, available[i] ?? 0));
        }
      }),
    );
  });

  it('changes nothing that fits', () => {
    expect(fitRows([9, 5, 1], [9, 9, 9])).toEqual([9, 5, 1]);
  });
});

describe('refusals', () => {
  const shape = { capacity: 64, window: 8, rows: 500, layers: 4, beta: 20 };
  it.each([
    [{ capacity: 8 }, 'ERR_ACCEL_BUDGET'],
    [{ capacity: 0 }, 'ERR_ACCEL_ARGUMENT'],
    [{ capacity: 63.5 }, 'ERR_ACCEL_ARGUMENT'],
    [{ rows: 0 }, 'ERR_ACCEL_ARGUMENT'],
    [{ layers: 0 }, 'ERR_ACCEL_ARGUMENT'],
    [{ beta: 0.5 }, 'ERR_ACCEL_ARGUMENT'],
    [{ window: -1 }, 'ERR_ACCEL_ARGUMENT'],
  ] as const)('%j', (change, code) => {
    expect(() => pyramidRows({ ...shape, ...change })).toThrow(errorWith(code));
  });
});

describe('the plan as a document', () => {
  const spec = { name: 'tiny', layers: 4, kvHeads: 2 };
  const options = { budget: { tokens: 64 }, window: 8, rows: 600 };

  it('has the rows of every layer and head', () => {
    const plan = pyramidPlan(spec, options);
    const rows = pyramidRows({ capacity: 64, window: 8, rows: 600, layers: 4, beta: 20 });
    expect(plan.values).toEqual(rows.map((kept) => [kept, kept]));
    expect(plan).toMatchObject({ layers: 4, kvHeads: 2, unit: 'tokens', total: 4 * 2 * 64 });
    expect(plan.provenance).toContain('beta 20');
  });

  it('takes a share, a beta and a mode', () => {
    const plan = pyramidPlan(spec, {
      ...options,
      budget: { keep: 0.5 },
      beta: 4,
      mode: 'reference',
    });
    expect(plan.values.map(([kept]) => kept)).toEqual(
      pyramidRows({ capacity: 300, window: 8, rows: 600, layers: 4, beta: 4 }, 'reference'),
    );
    expect(() => pyramidPlan(spec, { ...options, beta: 0 })).toThrow(errorWith('ERR_ACCEL_POLICY'));
  });
});
