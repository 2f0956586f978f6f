import { compose } from '@accel/core';
import { h2o } from '@accel/h2o';
import { snapkv } from '@accel/snapkv';
import { streamingllm } from '@accel/streamingllm';
import { conformance, type Step } from '@accel/testkit';
import { cam, method, type CamOptions } from '../src/index.js';
import { parity } from './parity.js';

const bad = (options: unknown) => () => cam(options as CamOptions);

conformance(method, {
  policy: (capacity) => compose(streamingllm({ sink: 4, recent: capacity - 4 }), cam()),
  kernels: ['cam_merge', 'streamingllm_merge'],
  badOptions: [
    { title: 'no targets', make: bad({ targets: 0 }), code: 'ERR_ACCEL_POLICY' },
    { title: 'half a target', make: bad({ targets: 1.5 }), code: 'ERR_ACCEL_POLICY' },
    { title: 'an unknown gate', make: bad({ gate: 'ratio' }), code: 'ERR_ACCEL_POLICY' },
    { title: 'a negative seed', make: bad({ seed: -1 }), code: 'ERR_ACCEL_POLICY' },
    { title: 'an unknown statistic', make: bad({ statistic: 'step' }), code: 'ERR_ACCEL_POLICY' },
    { title: 'a window that is too long', make: bad({ observe: 1025 }), code: 'ERR_ACCEL_POLICY' },
    { title: 'a start at the end', make: bad({ startRatio: 1 }), code: 'ERR_ACCEL_POLICY' },
    { title: 'an unknown option', make: bad({ merge_targets: 4 }), code: 'ERR_ACCEL_POLICY' },
    {
      title: 'a capacity of the seed toolkit that equals its window',
      make: () => method.fromConfig({ max_capacity_prompt: 32, window_size: 32 }),
      code: 'ERR_ACCEL_BUDGET',
    },
    {
      title: 'half a config of the seed toolkit',
      make: () => method.fromConfig({ window_size: 32 }),
      code: 'ERR_ACCEL_BUDGET',
    },
    {
      title: 'a bad option of its selection',
      make: () => method.fromConfig({ streamingllm: { sink: -1 } }),
      code: 'ERR_ACCEL_POLICY',
    },
    {
      title: 'a selection without names',
      make: () => method.fromConfig({ streamingllm: 64 }),
      code: 'ERR_ACCEL_POLICY',
    },
    {
      title: 'options of a selection that it does not use',
      make: () => method.fromConfig({ snapkv: { observe: 16 } }),
      code: 'ERR_ACCEL_POLICY',
    },
  ],
  parity,
});

conformance(method, {
  form: 'over H2O',
  policy: (capacity) => compose(h2o({ budget: { tokens: capacity } }), cam()),
  kernels: ['cam_merge', 'h2o_victim'],
});

conformance(method, {
  form: 'decode attention only, original positions',
  policy: (capacity) =>
    compose(
      streamingllm({ sink: 4, recent: capacity - 4, positions: 'original' }),
      cam({ statistic: 'decode', divisor: 'actual' }),
    ),
  kernels: ['cam_merge'],
});

conformance(method, {
  form: 'on the prompt',
  policy: (capacity) =>
    compose(
      snapkv({ budget: { tokens: capacity }, observe: 16, pool: { size: 1 } }),
      cam({ at: 'prompt', observe: 16, minPrompt: capacity }),
    ),
  kept: ({ phase, turn, rows, capacity }: Step) =>
    phase === 'prefill' && turn === 0 ? Math.min(rows, capacity) : rows,
  kernels: ['cam_smear'],
});
