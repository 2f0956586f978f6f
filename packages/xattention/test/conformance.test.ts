import { compose } from '@accel/core';
import { conformance, type Step } from '@accel/testkit';
import { method, xattention, type XattentionOptions } from '../src/index.js';

const bad = (options: unknown) => () => xattention(options as XattentionOptions);
const code = 'ERR_ACCEL_POLICY';

conformance(method, {
  // Prompts of the suite are short: they would be dense. Nothing leaves the cache, whatever the capacity.
  policy: () => compose(xattention({ dense: 0 })),
  kept: ({ rows }: Step) => rows,
  kernels: ['xattention_blocks'],
  badOptions: [
    { title: 'a stride that no block is a multiple of', make: bad({ stride: 12 }), code },
    { title: 'a stride of whole blocks', make: bad({ stride: 128 }), code },
    { title: 'a share above one', make: bad({ threshold: 1.01 }), code },
    { title: 'a share below zero', make: bad({ threshold: -0.1 }), code },
    { title: 'a share that is no number', make: bad({ threshold: NaN }), code },
    { title: 'a plan with a share above one', make: bad({ thresholds: [[0.5, 1.5]] }), code },
    { title: 'an empty plan', make: bad({ thresholds: [] }), code },
    { title: 'a divisor of zero', make: bad({ norm: 0 }), code },
    { title: 'an unknown mode', make: bad({ mode: 'fast' }), code },
    {
      title: 'a chunk that is no multiple of blocks',
      make: bad({ mode: 'compat', chunk: 2000 }),
      code,
    },
    { title: 'a chunk without its mode', make: bad({ chunk: 2048 }), code },
    { title: 'half a token', make: bad({ dense: 0.5 }), code },
    { title: 'an unknown option', make: bad({ block: 128 }), code },
  ],
});
