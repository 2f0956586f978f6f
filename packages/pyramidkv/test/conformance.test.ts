import { compose } from '@accel/core';
import { snapkv } from '@accel/snapkv';
import { conformance, type Step } from '@accel/testkit';
import {
  method,
  pyramidkv,
  pyramidRows,
  type PyramidMode,
  type PyramidkvOptions,
} from '../src/index.js';
import { parity } from './parity.js';

const bad = (options: unknown) => () => pyramidkv(options as PyramidkvOptions);
const WINDOW = 16;

// Decided once, at the end of the first prompt; what follows is appended.
const kept =
  (mode: PyramidMode) =>
  ({ phase, turn, rows, capacity, layer, layers }: Step): number => {
    if (phase === 'decode' || turn > 0) return rows;
    return pyramidRows({ capacity, window: WINDOW, rows, layers, beta: 20 }, mode)[layer] ?? 0;
  };

conformance(method, {
  policy: (capacity) =>
    compose(snapkv({ budget: { tokens: capacity }, observe: WINDOW }), pyramidkv()),
  kept: kept('exact'),
  kernels: ['snapkv_pool'],
  badOptions: [
    { title: 'a pyramid upside down', make: bad({ beta: 0 }), code: 'ERR_ACCEL_POLICY' },
    { title: 'half a beta', make: bad({ beta: 1.5 }), code: 'ERR_ACCEL_POLICY' },
    { title: 'an unknown mode', make: bad({ mode: 'cake' }), code: 'ERR_ACCEL_POLICY' },
    {
      title: 'a budget, which is the select part’s',
      make: bad({ budget: { tokens: 64 } }),
      code: 'ERR_ACCEL_POLICY',
    },
    {
      title: 'a config whose budget is its window',
      make: () => method.fromConfig({ max_capacity_prompt: 64, window_size: 64 }),
      code: 'ERR_ACCEL_BUDGET',
    },
    {
      title: 'a config with an even pool',
      make: () => method.fromConfig({ kernel_size: 4 }),
      code: 'ERR_ACCEL_POLICY',
    },
  ],
  parity,
});

conformance(method, {
  form: 'reference arithmetic',
  policy: (capacity) =>
    compose(
      snapkv({ budget: { tokens: capacity }, observe: WINDOW }),
      pyramidkv({ mode: 'reference' }),
    ),
  kept: kept('reference'),
  kernels: ['snapkv_pool'],
});
