import { freezePart, type PrefillPart } from '@accel/core';
import { XattentionChooser } from './chooser.js';
import { scratchBytes } from './scratch.js';
import { settingsFrom, type XattentionOptions } from './settings.js';

/** The part that {@link xattention} returns. */
export type XattentionPart = PrefillPart<'xattention', 'observedWindow' | 'headStats'>;

/**
 * XAttention (Xu et al., ICML 2025, arXiv 2503.16428). While a prompt is read, the attention of each 128 × 128 block is
 * estimated from one antidiagonal of every `stride` × `stride` square; a row of blocks computes the fewest blocks that hold the
 * share `threshold` of its estimate, and always the first and the diagonal one. The cache stays complete, and decoding is dense.
 *
 * @throws AccelError `ERR_ACCEL_POLICY` for an option that is out of range
 * @example
 * const sequence = model.sequence({ policy: compose(xattention({ stride: 16, threshold: 0.9 })) });
 */
export function xattention(options: XattentionOptions = {}): XattentionPart {
  const settings = settingsFrom(options);
  return freezePart({
    id: 'xattention',
    slot: 'prefill',
    needs: [],
    provides: ['observedWindow', 'headStats'],
    lossy: true,
    figures: ['recall', 'minRecall'],
    options: settings,
    scratchBytes: (choice) => scratchBytes(settings.stride, choice),
    create: (setup) => new XattentionChooser(setup, settings),
  } satisfies XattentionPart);
}
