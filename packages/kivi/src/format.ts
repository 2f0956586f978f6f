import type { CodecSetup, RowFormat } from '@accel/core';
import { itemsOf, layoutFor } from './layout.js';
import { kiviAttention, kiviEncode } from './ops.js';
import type { KiviSettings } from './settings.js';

/**
 * Rows under KIVI. The oldest keys are packed `residual` at a time, whenever so many are plain besides the `recent` ones (if
 * guarded, one at least); the oldest value is packed as soon as more than `residual` are plain.
 * @throws AccelError `ERR_ACCEL_POLICY` when the group does not divide the head dimension
 */
export function kiviFormat(
  settings: KiviSettings,
  {
    spec,
    channels,
    header,
    recent = 0,
  }: Pick<CodecSetup, 'channels' | 'header'> & {
    readonly recent?: number | undefined;
    readonly spec: Pick<CodecSetup['spec'], 'heads' | 'kvHeads' | 'headDim'>;
  },
): RowFormat {
  const { residual, guarded } = settings;
  const layout = layoutFor(settings, spec, channels);
  const { keyBits, valueBits, group } = layout;
  const keep = Math.max(recent, guarded ? 1 : 0);
  return {
    key: ['kivi', keyBits, valueBits, group, channels, header, residual, keep].join('/'),
    items: itemsOf(layout, spec.headDim, header),
    rules: {
      keys: { block: residual, keep },
      values: { block: 1, keep: residual },
    },
    encodes: 'everyStep',
    idleRows: residual - 1 + keep,
    slowKernels: {
      kivi_attention_reference:
        'attention over packed rows ran on the plain kernel, because the fast one takes head dimensions of 64 and 128, groups of 32 and more, equal bits for keys and values, pages of a power of two bytes from 2048 on, and needs up to 150 KB of shared memory a block',
    },
    encode: (call) => {
      kiviEncode(call, layout);
    },
    attend: (call) => {
      kiviAttention(call, layout);
    },
  };
}
