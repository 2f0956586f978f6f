import { compose } from '@accel/core';
import { conformance, type Step } from '@accel/testkit';
import { method, snapkv, type SnapkvOptions } from '../src/index.js';
import { parity } from './parity.js';

const bad = (options: unknown) => () => snapkv(options as SnapkvOptions);

conformance(method, {
  policy: (capacity) => compose(snapkv({ budget: { tokens: capacity }, observe: 16 })),
  // Decided once, at the end of the first prompt; what follows is appended.
  kept: ({ phase, turn, rows, capacity }: Step) =>
    phase === 'prefill' && turn === 0 ? Math.min(rows, capacity) : rows,
  kernels: ['snapkv_pool'],
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
    {
      title: 'a budget smaller than the window',
      make: bad({ budget: { tokens: 32 }, observe: 40 }),
      code: 'ERR_ACCEL_BUDGET',
    },
    { title: 'an empty window', make: bad({ observe: 0 }), code: 'ERR_ACCEL_POLICY' },
    { title: 'an even pool', make: bad({ pool: { size: 4 } }), code: 'ERR_ACCEL_POLICY' },
    { title: 'an unknown pool', make: bad({ pool: { kind: 'median' } }), code: 'ERR_ACCEL_POLICY' },
    {
      title: 'an unknown reduction',
      make: bad({ groupReduce: 'median' }),
      code: 'ERR_ACCEL_POLICY',
    },
    { title: 'an unknown option', make: bad({ window: 32 }), code: 'ERR_ACCEL_POLICY' },
  ],
  parity,
});
