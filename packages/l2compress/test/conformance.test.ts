import { compose } from '@accel/core';
import { conformance, type BadOptions, type Step } from '@accel/testkit';
import { l2compress, method, type L2compressOptions } from '../src/index.js';
import { parity } from './parity.js';

const bad = (options: unknown) => () => l2compress(options as L2compressOptions);

const badOptions: BadOptions[] = [
  { title: 'a budget of zero', make: bad({ budget: { tokens: 0 } }), code: 'ERR_ACCEL_BUDGET' },
  {
    title: 'a fraction of a token',
    make: bad({ budget: { tokens: 9.5 } }),
    code: 'ERR_ACCEL_BUDGET',
  },
  { title: 'a share of nothing', make: bad({ budget: { keep: 0 } }), code: 'ERR_ACCEL_BUDGET' },
  { title: 'a share above one', make: bad({ budget: { keep: 1.5 } }), code: 'ERR_ACCEL_BUDGET' },
  {
    title: 'a budget that gives two answers',
    make: () => method.fromConfig({ max_capacity_prompt: 64, keep_ratio: 0.5 }),
    code: 'ERR_ACCEL_BUDGET',
  },
  {
    title: 'a budget that protection uses up',
    make: bad({ budget: { tokens: 20 }, sink: 4, recent: 16 }),
    code: 'ERR_ACCEL_BUDGET',
  },
  { title: 'a negative layer', make: bad({ skipLayers: [-1] }), code: 'ERR_ACCEL_POLICY' },
  { title: 'half a layer', make: bad({ skipLayers: [0.5] }), code: 'ERR_ACCEL_POLICY' },
  { title: 'negative sinks', make: bad({ sink: -1 }), code: 'ERR_ACCEL_POLICY' },
  { title: 'a negative threshold', make: bad({ pruneAfter: -1 }), code: 'ERR_ACCEL_POLICY' },
  { title: 'an unknown time', make: bad({ evicts: 'turn' }), code: 'ERR_ACCEL_POLICY' },
  {
    title: 'eviction after every token of the first turn only',
    make: bad({ evicts: 'everyStep', turns: 'first' }),
    code: 'ERR_ACCEL_POLICY',
  },
  { title: 'an unknown option', make: bad({ layers: [0] }), code: 'ERR_ACCEL_POLICY' },
];

// The first layer is skipped not only because it is in the paper: there, all tokens of one kind have keys of one norm,
// which rounding puts into some order.
conformance(method, {
  policy: (capacity) => compose(l2compress({ budget: { tokens: capacity }, skipLayers: [0] })),
  // Decided once, at the end of the first prompt, and not in the skipped layer; what follows is appended.
  kept: ({ phase, turn, rows, capacity, layer }: Step) =>
    phase === 'prefill' && turn === 0 && layer > 0 ? Math.min(rows, capacity) : rows,
  kernels: ['l2compress_scores'],
  badOptions,
  parity,
});

conformance(method, {
  form: 'after every token',
  policy: (capacity) =>
    compose(
      l2compress({
        budget: { tokens: capacity },
        skipLayers: [0],
        sink: 2,
        recent: 5,
        evicts: 'everyStep',
      }),
    ),
  kept: ({ rows, capacity, layer }: Step) => (layer > 0 ? Math.min(rows, capacity) : rows),
  kernels: ['l2compress_scores', 'l2compress_victim'],
});
