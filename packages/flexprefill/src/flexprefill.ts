import { freezePart, type PrefillPart } from '@accel/core';
import { FIGURES } from './blocks.js';
import { FlexprefillChooser } from './chooser.js';
import { scratchBytes } from './scratch.js';
import { settingsFrom, type FlexprefillOptions } from './settings.js';

/** The part that {@link flexprefill} returns. */
export type FlexprefillPart = PrefillPart<'flexprefill', 'observedWindow' | 'headStats'>;

/**
 * FlexPrefill (Lai et al., ICLR 2025, arXiv 2502.20766): attention of the prompt in the blocks that each query head
 * needs. What a head's last 128 queries look at gives columns and diagonals that hold `gamma` of their attention; where
 * the means of keys predict those columns (a divergence below `tau`), the head takes blocks of the largest predicted
 * attention instead. The cache and decoding stay dense.
 *
 * @throws AccelError `ERR_ACCEL_POLICY` for an option that is out of range, for example `gamma` 1
 * @example
 * const sequence = model.sequence({ policy: compose(flexprefill({ gamma: 0.95, minBudget: 1024 })) });
 */
export function flexprefill(options?: FlexprefillOptions): FlexprefillPart {
  const settings = settingsFrom(options ?? {});
  return freezePart({
    id: 'flexprefill',
    slot: 'prefill',
    needs: [],
    // Both come from a window of queries, which is attended densely besides. Sums over all queries would be masked sums.
    provides: ['observedWindow', 'headStats'],
    lossy: true,
    figures: FIGURES,
    options: settings,
    scratchBytes: (choice) => scratchBytes(settings.blockSize, choice),
    create: () => new FlexprefillChooser(settings),
  } satisfies FlexprefillPart);
}
