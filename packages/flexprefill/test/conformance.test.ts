import { compose } from '@accel/core';
import { conformance, type Step } from '@accel/testkit';
import { flexprefill, method, type FlexprefillOptions } from '../src/index.js';

const bad = (options: unknown) => () => flexprefill(options as FlexprefillOptions);
const code = 'ERR_ACCEL_POLICY';

conformance(method, {
  // Prompts of the suite are short: in blocks of 128 they would be dense. Nothing leaves, whatever the capacity.
  policy: () => compose(flexprefill({ blockSize: 64, minBudget: null })),
  kept: ({ rows }: Step) => rows,
  kernels: ['flexprefill_blocks'],
  badOptions: [
    { title: 'all of the attention', make: bad({ gamma: 1 }), code },
    { title: 'more than all of the attention', make: bad({ gamma: 1.5 }), code },
    { title: 'none of the attention', make: bad({ gamma: 0 }), code },
    { title: 'a share that is no number', make: bad({ gamma: NaN }), code },
    { title: 'a divergence below zero', make: bad({ tau: -0.1 }), code },
    { title: 'a least budget of zero', make: bad({ minBudget: 0 }), code },
    { title: 'half a token', make: bad({ minBudget: 512.5 }), code },
    { title: 'a largest budget of zero', make: bad({ maxBudget: 0 }), code },
    { title: 'a block there is not', make: bad({ blockSize: 32 }), code },
    { title: 'an unknown mode', make: bad({ mode: 'fast' }), code },
    { title: 'an unknown option', make: bad({ block: 128 }), code },
    {
      title: 'two spellings of one option',
      make: () => method.fromConfig({ gamma: 0.9, flex_prefill_gamma: 0.9 }),
      code,
    },
  ],
});
