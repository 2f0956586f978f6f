import { compose } from '@accel/core';
import { conformance, type Step } from '@accel/testkit';
import { h2o, method, type H2oOptions } from '../src/index.js';
import { parity } from './parity.js';

const bad = (options: unknown) => () => h2o(options as H2oOptions);

conformance(method, {
  policy: (capacity) => compose(h2o({ budget: { tokens: capacity } })),
  kernels: ['h2o_victim'],
  badOptions: [
    { title: 'a budget of zero', make: bad({ budget: { tokens: 0 } }), code: 'ERR_ACCEL_BUDGET' },
    {
      title: 'a fraction of a token',
      make: bad({ budget: { tokens: 99.5 } }),
      code: 'ERR_ACCEL_BUDGET',
    },
    { title: 'a share above one', make: bad({ budget: { keep: 1.5 } }), code: 'ERR_ACCEL_BUDGET' },
    {
      title: 'a budget that gives two answers',
      make: bad({ budget: { tokens: 64, keep: 0.5 } }),
      code: 'ERR_ACCEL_BUDGET',
    },
    {
      title: 'more recent rows than the budget has',
      make: bad({ budget: { tokens: 64 }, recent: 65 }),
      code: 'ERR_ACCEL_BUDGET',
    },
    { title: 'a negative window', make: bad({ recent: -1 }), code: 'ERR_ACCEL_POLICY' },
    { title: 'half a row', make: bad({ recent: 2.5 }), code: 'ERR_ACCEL_POLICY' },
    {
      title: 'an unknown reduction',
      make: bad({ groupReduce: 'median' }),
      code: 'ERR_ACCEL_POLICY',
    },
    { title: 'an unknown moment', make: bad({ evicts: 'never' }), code: 'ERR_ACCEL_POLICY' },
    { title: 'an unknown option', make: bad({ heavy: 32 }), code: 'ERR_ACCEL_POLICY' },
  ],
  parity,
});

conformance(method, {
  form: 'no heavy rows',
  policy: (capacity) => compose(h2o({ budget: { tokens: capacity }, recent: capacity })),
  kernels: ['h2o_victim'],
});

conformance(method, {
  form: 'one recent row',
  policy: (capacity) => compose(h2o({ budget: { tokens: capacity }, recent: 1 })),
  kernels: ['h2o_victim'],
});

conformance(method, {
  form: 'largest of the group',
  policy: (capacity) => compose(h2o({ budget: { tokens: capacity }, groupReduce: 'max' })),
  kernels: ['h2o_victim'],
});

conformance(method, {
  form: 'prompt only',
  policy: (capacity) => compose(h2o({ budget: { tokens: capacity }, evicts: 'prefillEnd' })),
  kept: ({ phase, turn, rows, capacity }: Step) =>
    phase === 'prefill' && turn === 0 ? Math.min(rows, capacity) : rows,
  kernels: [],
});
