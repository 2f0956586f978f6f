import { compose } from '@accel/core';
import { conformance, type ConformanceOptions, type Step } from '@accel/testkit';
import { cakekv, method, type CakekvOptions } from '../src/index.js';
import { parity } from './parity.js';

const WINDOW = 16;
const bad = (options: unknown) => () => cakekv(options as CakekvOptions);

/**
 * With such temperatures preferences are all 1, so the shares of layers can be told beforehand; everything that leads to
 * them still runs. What preferences do is tested in engine.test.ts.
 */
const EQUAL = { tau1: 1e12, tau2: 1e12, observe: WINDOW };

const shared: Pick<ConformanceOptions, 'kept' | 'kernels'> = {
  // A prompt may exceed the budget by a window; whatever comes later may not exceed it.
  kept: ({ phase, turn, rows, capacity }: Step) =>
    phase === 'prefill' && turn === 0 && rows <= capacity + WINDOW
      ? rows
      : Math.min(rows, capacity),
  kernels: ['cake_statistics', 'cake_pool', 'cake_victim'],
};

conformance(method, {
  ...shared,
  policy: (capacity) => compose(...cakekv({ ...EQUAL, budget: { tokens: capacity } })),
  badOptions: [
    { title: 'a budget of zero', make: bad({ budget: { tokens: 0 } }), code: 'ERR_ACCEL_BUDGET' },
    {
      title: 'a fraction of a token',
      make: bad({ budget: { tokens: 99.5 } }),
      code: 'ERR_ACCEL_BUDGET',
    },
    { title: 'a share of nothing', make: bad({ budget: { keep: 0 } }), code: 'ERR_ACCEL_BUDGET' },
    { title: 'a share above one', make: bad({ budget: { keep: 1.5 } }), code: 'ERR_ACCEL_BUDGET' },
    {
      title: 'a budget that gives two answers',
      make: bad({ budget: { tokens: 64, keep: 0.5 } }),
      code: 'ERR_ACCEL_BUDGET',
    },
    {
      title: 'a budget as large as the window',
      make: bad({ budget: { tokens: 32 }, observe: 32 }),
      code: 'ERR_ACCEL_BUDGET',
    },
    { title: 'a window of one', make: bad({ observe: 1 }), code: 'ERR_ACCEL_POLICY' },
    { title: 'a negative weight', make: bad({ gamma: -1 }), code: 'ERR_ACCEL_POLICY' },
    { title: 'a temperature of zero', make: bad({ tau1: 0 }), code: 'ERR_ACCEL_POLICY' },
    { title: 'an even pool', make: bad({ pool: 4 }), code: 'ERR_ACCEL_POLICY' },
    { title: 'an unknown order', make: bad({ decodeOrder: 'rank' }), code: 'ERR_ACCEL_POLICY' },
    { title: 'an unknown option', make: bad({ window: 32 }), code: 'ERR_ACCEL_POLICY' },
  ],
  parity,
});

conformance(method, {
  ...shared,
  form: 'reference order, one allocation at the end',
  kernels: ['cake_statistics', 'cake_pool', 'cake_order'],
  policy: (capacity) =>
    compose(
      ...cakekv({
        ...EQUAL,
        budget: { tokens: capacity },
        cascading: false,
        decodeOrder: 'reference',
      }),
    ),
});

conformance(method, {
  form: 'selection alone',
  kernels: ['cake_statistics', 'cake_pool', 'cake_victim'],
  policy: (capacity) => compose(cakekv({ budget: { tokens: capacity }, observe: WINDOW })[1]),
});
