/** Every method that evicts, allots or merges, at the same number of rows a head; formats of stored rows, and both; sparse prefill. */
import { fileURLToPath } from 'node:url';
import { cakekv } from '@accel/cakekv';
import { cam } from '@accel/cam';
import { compose, full } from '@accel/core';
import { flexprefill } from '@accel/flexprefill';
import { h2o } from '@accel/h2o';
import { kivi } from '@accel/kivi';
import { l2compress } from '@accel/l2compress';
import { pyramidkv } from '@accel/pyramidkv';
import { snapkv } from '@accel/snapkv';
import { streamingllm } from '@accel/streamingllm';
import { think } from '@accel/think';
import { readThresholds, xattention } from '@accel/xattention';

/** Of the embedded model; calibration-texts.js says where it is from. */
const plan = await readThresholds(
  fileURLToPath(new URL('../plans/xattention-needle.json', import.meta.url)),
);

/**
 * @param {number} tokens rows kept for each layer and head, on average over layers
 * @param {number} pool neighbours that scores are spread over. In the embedded model's vocabulary a digit is a token, and
 *   the end of a prompt looks at the first digit of a number only: scores must spread over a whole number. The published
 *   pools of 5 and 7 keep half of one.
 * @returns {{ name: string, policy: import('@accel/core').Policy }[]}
 */
export function methods(tokens, pool) {
  const budget = { tokens };
  const wide = { kind: 'max', size: pool };
  const votes = () => snapkv({ budget, pool: wide });
  // A threshold for each head, as in the paper. Prompts of 2K are sparse too: otherwise they would show nothing.
  const calibrated = () =>
    xattention({ stride: plan.stride, thresholds: plan.thresholds, dense: 0 });
  const packed = (bits) => kivi({ bits, group: 32, residual: 128 });
  return [
    { name: 'full', policy: full },
    { name: 'SnapKV', policy: compose(snapkv({ budget, pool: wide })) },
    { name: 'PyramidKV', policy: compose(snapkv({ budget, pool: wide }), pyramidkv()) },
    { name: 'CakeKV', policy: compose(...cakekv({ budget, pool })) },
    { name: 'H2O', policy: compose(h2o({ budget })) },
    { name: 'L2Compress', policy: compose(l2compress({ budget })) },
    { name: 'StreamingLLM', policy: compose(streamingllm({ budget })) },
    { name: 'StreamingLLM+CaM', policy: compose(streamingllm({ budget }), cam()) },
    { name: 'H2O+CaM', policy: compose(h2o({ budget }), cam()) },
    { name: 'KIVI-8', policy: compose(packed(8)) },
    { name: 'KIVI-4', policy: compose(packed(4)) },
    { name: 'KIVI-2', policy: compose(packed(2)) },
    { name: 'ThinK', policy: compose(think()) },
    { name: 'SnapKV+ThinK', policy: compose(votes(), think()) },
    { name: 'SnapKV+KIVI-4', policy: compose(votes(), packed(4)) },
    { name: 'PyramidKV+ThinK', policy: compose(votes(), pyramidkv(), think()) },
    { name: 'SnapKV+ThinK+KIVI-4', policy: compose(votes(), think(), packed(4)) },
    {
      name: 'H2O+KIVI-4',
      policy: compose(h2o({ budget, evicts: 'prefillEnd' }), packed(4)),
    },
    // With the options of their papers, whatever the budget: these leave the cache alone.
    { name: 'XAttention', policy: compose(calibrated()) },
    {
      name: 'XAttention 0.9',
      policy: compose(xattention({ stride: 16, threshold: 0.9, dense: 0 })),
    },
    {
      name: 'FlexPrefill',
      policy: compose(flexprefill({ gamma: 0.95, tau: 0.1, minBudget: 1024 })),
    },
    {
      name: 'XAttention+SnapKV',
      policy: compose(calibrated(), votes()),
    },
    {
      name: 'FlexPrefill+KIVI-8',
      policy: compose(flexprefill({ gamma: 0.95, tau: 0.1, minBudget: 1024 }), packed(8)),
    },
  ];
}
