import { compose } from '@accel/core';
import { snapkv } from '@accel/snapkv';
import { conformance, type Step } from '@accel/testkit';
import { method, think, type ThinkOptions } from '../src/index.js';
import { parity } from './parity.js';

const bad = (options: unknown) => () => think(options as ThinkOptions);

conformance(method, {
  form: 'over SnapKV',
  // As many recent rows as a prompt of the suite that has to stay exact.
  policy: (capacity) =>
    compose(snapkv({ budget: { tokens: capacity }, observe: 16 }), think({ recent: 48 })),
  kept: ({ phase, turn, rows, capacity }: Step) =>
    phase === 'prefill' && turn === 0 ? Math.min(rows, capacity) : rows,
  // Attention has two kernels, chosen by the dtype.
  kernels: ['think_queries', 'think_scores', 'think_channels', 'think_prune'],
  badOptions: [
    { title: 'a ratio of 1', make: bad({ ratio: 1 }), code: 'ERR_ACCEL_POLICY' },
    { title: 'a negative ratio', make: bad({ ratio: -0.1 }), code: 'ERR_ACCEL_POLICY' },
    { title: 'half a row', make: bad({ recent: 1.5 }), code: 'ERR_ACCEL_POLICY' },
    { title: 'no queries', make: bad({ observe: 0 }), code: 'ERR_ACCEL_POLICY' },
    { title: 'an unknown reduction', make: bad({ groupReduce: 'sum' }), code: 'ERR_ACCEL_POLICY' },
    { title: 'an unknown option', make: bad({ ratios: 0.4 }), code: 'ERR_ACCEL_POLICY' },
    {
      title: 'a bad option of its selection',
      make: () => method.fromConfig({ snapkv: { pool: { size: 4 } } }),
      code: 'ERR_ACCEL_POLICY',
    },
    {
      title: 'a selection without names',
      make: () => method.fromConfig({ snapkv: 512 }),
      code: 'ERR_ACCEL_POLICY',
    },
    {
      title: 'a capacity of the seed toolkit that equals its window',
      make: () => method.fromConfig({ max_capacity_prompt: 32, window_size: 32 }),
      code: 'ERR_ACCEL_BUDGET',
    },
    {
      title: 'two spellings of one option',
      make: () => method.fromConfig({ ratio: 0.4, pruning_ratio: 0.5 }),
      code: 'ERR_ACCEL_POLICY',
    },
  ],
  parity,
});

conformance(method, {
  form: 'alone',
  policy: () => compose(think({ recent: 48 })),
  kept: ({ rows }: Step) => rows,
  kernels: ['think_prune'],
});
