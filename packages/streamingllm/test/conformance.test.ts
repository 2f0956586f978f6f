import { compose } from '@accel/core';
import { conformance } from '@accel/testkit';
import { method, streamingllm, type StreamingllmOptions } from '../src/index.js';
import { parity } from './parity.js';

const bad = (options: unknown) => () => streamingllm(options as StreamingllmOptions);

conformance(method, {
  policy: (capacity) => compose(streamingllm({ sink: 4, recent: capacity - 4 })),
  kernels: ['streamingllm_merge'],
  badOptions: [
    { title: 'a budget of zero', make: bad({ budget: { tokens: 0 } }), code: 'ERR_ACCEL_BUDGET' },
    {
      title: 'a budget as large as the sinks',
      make: bad({ budget: { tokens: 4 } }),
      code: 'ERR_ACCEL_BUDGET',
    },
    {
      title: 'a budget smaller than the sinks',
      make: bad({ budget: { tokens: 4 }, sink: 8 }),
      code: 'ERR_ACCEL_BUDGET',
    },
    { title: 'a share above one', make: bad({ budget: { keep: 2 } }), code: 'ERR_ACCEL_BUDGET' },
    { title: 'no recent rows', make: bad({ recent: 0 }), code: 'ERR_ACCEL_POLICY' },
    { title: 'half a sink', make: bad({ sink: 0.5 }), code: 'ERR_ACCEL_POLICY' },
    {
      title: 'recent and a budget',
      make: bad({ recent: 64, budget: { tokens: 64 } }),
      code: 'ERR_ACCEL_POLICY',
    },
    {
      title: 'a banded prompt that is cut by turns',
      make: bad({ prefill: 'banded', trim: 'turn' }),
      code: 'ERR_ACCEL_POLICY',
    },
    { title: 'unknown positions', make: bad({ positions: 'relative' }), code: 'ERR_ACCEL_POLICY' },
    { title: 'an unknown option', make: bad({ sinks: 4 }), code: 'ERR_ACCEL_POLICY' },
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
  ],
  parity,
});

conformance(method, {
  form: 'banded prompt',
  policy: (capacity) => compose(streamingllm({ sink: 4, recent: capacity - 4, prefill: 'banded' })),
  kernels: ['streamingllm_merge'],
});

conformance(method, {
  form: 'original positions, banded prompt',
  policy: (capacity) =>
    compose(
      streamingllm({ sink: 4, recent: capacity - 4, positions: 'original', prefill: 'banded' }),
    ),
  kernels: ['streamingllm_merge'],
});

conformance(method, {
  form: 'original positions, cut once',
  policy: (capacity) =>
    compose(streamingllm({ sink: 4, recent: capacity - 4, positions: 'original', trim: 'prompt' })),
  kept: ({ phase, turn, rows, capacity }) =>
    phase === 'prefill' && turn === 0 ? Math.min(rows, capacity) : rows,
  kernels: [],
});
