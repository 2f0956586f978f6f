import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Budget, budget, resolveBudget } from '../../src/policy/budget.js';
import { type BudgetPlan, budgetPlan, planRows } from '../../src/policy/budget-plan.js';
import { expectFailure } from '../shared.js';

describe('a budget', () => {
  test('is checked and frozen', () => {
    expect(budget({ tokens: 512 })).toEqual({ tokens: 512 });
    expect(budget({ keep: 1 })).toEqual({ keep: 1 });
    expect(Object.isFrozen(budget({ tokens: 1 }))).toBe(true);
    expect(budget({ tokens: 36 }, { minimum: 36 })).toEqual({ tokens: 36 });
  });

  const bad: unknown[] = [
    { tokens: 0 },
    { tokens: -1 },
    { tokens: 1.5 },
    { tokens: NaN },
    { tokens: '512' },
    { tokens: 2 ** 60 },
    { keep: 0 },
    { keep: -0.1 },
    { keep: 1.01 },
    { keep: NaN },
    { keep: null },
    {},
    { tokens: 1, keep: 0.5 },
    { ratio: 0.5 },
    { tokens: 5, ratio: 0.5 },
  ];
  test.each(bad)('refuses %j', async (value) => {
    await expectFailure(() => budget(value as Budget), 'ERR_ACCEL_BUDGET', 'Give');
  });

  test('must hold what is always kept', async () => {
    await expectFailure(
      () => budget({ tokens: 35 }, { minimum: 36, reason: 'sink 4 + recent 32' }),
      'ERR_ACCEL_BUDGET',
      'smaller than the 36 that are always kept (sink 4 + recent 32)',
    );
  });

  test('rounds in double precision as the methods do', () => {
    // Known answers of kvpress (removed share r), H2O (truncated) and L2Compress (rounded up).
    expect(resolveBudget({ keep: 1 - 0.9 }, 1000)).toBe(99);
    expect(resolveBudget({ keep: 1 - 0.8 }, 10)).toBe(1);
    expect(resolveBudget({ keep: 0.29 }, 100)).toBe(28);
    expect(resolveBudget({ keep: 0.55 }, 100, 'ceil')).toBe(56);
    expect(resolveBudget({ keep: 0.07 }, 100, 'ceil')).toBe(8);
    expect(resolveBudget({ tokens: 512 }, 8192)).toBe(512);
  });

  test('is never zero and never more than there is', () => {
    const any = fc.oneof(
      fc.record({ tokens: fc.integer({ min: 1 }) }),
      fc.record({ keep: fc.double({ min: Number.MIN_VALUE, max: 1, noNaN: true }) }),
    );
    fc.assert(
      fc.property(
        any,
        fc.integer({ min: 1, max: 1e9 }),
        fc.constantFrom('trunc' as const, 'ceil' as const),
        (value, rows, rounding) => {
          const kept = resolveBudget(budget(value), rows, rounding);
          expect(Number.isInteger(kept) && kept >= 1 && kept <= rows).toBe(true);
        },
      ),
    );
  });

  test('of no rows has no meaning', async () => {
    await expectFailure(() => resolveBudget({ tokens: 1 }, 0), 'ERR_ACCEL_ARGUMENT');
  });
});

describe('a budget plan', () => {
  const plan: BudgetPlan = {
    schema: 'accel.budget-plan.1',
    model: { id: 'needle' },
    layers: 2,
    kvHeads: 2,
    unit: 'tokens',
    values: [
      [10, 12],
      [4, 6],
    ],
    floor: 4,
    total: 32,
    provenance: 'by hand',
  };
  const shares: BudgetPlan = {
    ...plan,
    unit: 'keep',
    values: [
      [0.1, 0.2],
      [0.3, 0.001],
    ],
    floor: 0.001,
    total: 0.601,
  };

  test('survives JSON and is frozen', () => {
    const read = budgetPlan(JSON.parse(JSON.stringify(plan)), {
      name: 'needle',
      layers: 2,
      kvHeads: 2,
    });
    expect(read).toEqual(plan);
    expect(Object.isFrozen(read.values[0])).toBe(true);
    expect(planRows(read, 1, 0, 100)).toBe(4);
    expect(planRows(read, 0, 1, 8)).toBe(8);
    const keep = budgetPlan(shares);
    expect(planRows(keep, 1, 1, 100)).toBe(1);
    expect(planRows(keep, 1, 0, 100)).toBe(30);
  });

  const bad: [string, object, string][] = [
    [
      'a cell of zero',
      {
        values: [
          [0, 22],
          [4, 6],
        ],
        floor: 0,
      },
      'layer 0, head 0 keeps 0',
    ],
    [
      'a cell below the floor',
      {
        values: [
          [3, 19],
          [4, 6],
        ],
      },
      'less than the floor 4',
    ],
    [
      'a fraction of a row',
      {
        values: [
          [10.5, 11.5],
          [4, 6],
        ],
      },
      'not a whole number',
    ],
    ['a wrong total', { total: 33 }, 'add up to 32'],
    ['a missing head', { values: [[22], [4, 6]] }, '2 lists of 2'],
    ['a missing layer', { values: [[22, 10]] }, '2 lists of 2'],
    [
      'a share above 1',
      {
        unit: 'keep',
        values: [
          [1.5, 0.1],
          [0.1, 0.1],
        ],
        floor: 0.1,
        total: 1.8,
      },
      'more than all',
    ],
    [
      'a share of zero',
      {
        unit: 'keep',
        values: [
          [0, 0.1],
          [0.1, 0.1],
        ],
        floor: 0,
        total: 0.3,
      },
      'floor 0',
    ],
    ['another schema', { schema: 'x' }, 'schema'],
    ['an unknown key', { ratio: 1 }, 'ratio'],
  ];
  test.each(bad)('refuses %s', async (_, changes, words) => {
    await expectFailure(() => budgetPlan({ ...plan, ...changes }), 'ERR_ACCEL_BUDGET', words);
  });

  test('must fit the model', async () => {
    await expectFailure(
      () => budgetPlan(plan, { name: 'x', layers: 3, kvHeads: 2 }),
      'ERR_ACCEL_BUDGET',
      'x has 3 of 2',
    );
    await expectFailure(() => planRows(plan, 2, 0, 10), 'ERR_ACCEL_ARGUMENT');
  });
});
