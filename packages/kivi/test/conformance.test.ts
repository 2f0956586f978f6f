import { compose } from '@accel/core';
import { snapkv } from '@accel/snapkv';
import { conformance, type Step } from '@accel/testkit';
import { kivi, method, type KiviOptions } from '../src/index.js';
import { parity } from './parity.js';

const bad = (options: unknown) => () => kivi(options as KiviOptions);
// Nothing leaves. The suite's model has 16 channels.
const kept = ({ rows }: Step): number => rows;

conformance(method, {
  // Prompts up to a capacity of 64 stay exact; of 2048 rows and more most are packed.
  policy: (capacity) => compose(kivi({ group: 16, residual: Math.min(capacity, 64) })),
  kept,
  kernels: ['kivi_encode'],
  badOptions: [
    { title: 'three bits', make: bad({ bits: 3 }), code: 'ERR_ACCEL_POLICY' },
    {
      title: 'automatic bits of keys alone',
      make: bad({ keyBits: 'auto' }),
      code: 'ERR_ACCEL_POLICY',
    },
    { title: 'a group that is none', make: bad({ group: 48 }), code: 'ERR_ACCEL_POLICY' },
    { title: 'no residual', make: bad({ residual: 0 }), code: 'ERR_ACCEL_POLICY' },
    { title: 'half a row', make: bad({ residual: 32.5 }), code: 'ERR_ACCEL_POLICY' },
    {
      title: 'a residual that is no multiple of the group',
      make: bad({ residual: 48, group: 32 }),
      code: 'ERR_ACCEL_POLICY',
    },
    { title: 'a guard that is a number', make: bad({ guarded: 1 }), code: 'ERR_ACCEL_POLICY' },
    { title: 'an unknown option', make: bad({ nbits: 2 }), code: 'ERR_ACCEL_POLICY' },
    {
      title: 'two spellings of one option',
      make: () => method.fromConfig({ group: 32, group_size: 32 }),
      code: 'ERR_ACCEL_POLICY',
    },
  ],
  parity,
});

conformance(method, {
  form: 'as published, 2 bits',
  policy: (capacity) =>
    compose(kivi({ bits: 2, group: 16, residual: Math.min(capacity, 64), guarded: false })),
  kept,
  kernels: ['kivi_encode'],
});

conformance(method, {
  form: 'over SnapKV',
  policy: (capacity) =>
    compose(
      snapkv({ budget: { tokens: capacity }, observe: 16 }),
      kivi({ bits: 8, group: 16, residual: 48 }),
    ),
  kept: ({ phase, turn, rows, capacity }: Step) =>
    phase === 'prefill' && turn === 0 ? Math.min(rows, capacity) : rows,
  kernels: ['kivi_encode'],
});
