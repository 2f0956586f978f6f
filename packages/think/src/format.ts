import type { ModelSpec, RowFormat } from '@accel/core';
import type { DType } from '@accel/kernels';
import { keyItems } from './layout.js';
import { thinkAttention, thinkPrune } from './ops.js';
import { channelsOf, type ThinkSettings } from './settings.js';

/**
 * Rows under ThinK alone: keys of the first prompt, but for its newest rows, have lost channels; everything else is plain. With a
 * codec keys are stored in that one's format, and this is not used.
 */
export function thinkFormat(
  settings: Pick<ThinkSettings, 'ratio' | 'aligned' | 'recent'>,
  { spec, dtype }: { readonly spec: Pick<ModelSpec, 'headDim'>; readonly dtype: DType },
): RowFormat {
  const { recent } = settings;
  const channels = channelsOf(settings, spec);
  return {
    key: `think/${channels}/${recent}`,
    items: { keys: keyItems(channels, dtype) },
    // Exactly the newest rows stay whole, as published, so a last item may be part full.
    rules: { keys: { block: 1, keep: recent } },
    encodes: 'firstPrompt',
    idleRows: recent,
    slowKernels: {
      think_attention_any:
        'attention over pruned keys ran on the plain kernel, because the fast one takes head dimensions of 64 and 128 and needs 130 KB of shared memory a block',
    },
    encode: ({ stream, kv, keys }) => {
      thinkPrune(stream, kv, channels, keys);
    },
    attend: (call) => {
      thinkAttention(call, channels);
    },
  };
}
