import { BLOCK, type BlockCall, type BlockChooser } from '@accel/core';
import { flexprefillBlocks } from './blocks.js';
import type { FlexprefillSettings } from './settings.js';

/** Kernels of the op that run only where a faster one cannot. */
const SLOW_KERNELS = {
  flexprefill_plain:
    'FlexPrefill chose on the plain kernel, because no fast one takes this head dimension or GPU',
};

/** FlexPrefill on one sequence. It remembers nothing: each choice is made from the queries and keys at hand. */
export class FlexprefillChooser implements BlockChooser {
  readonly #settings: FlexprefillSettings;
  /** Up to so many rows two blocks of columns, or the smallest budget, are all there is. */
  readonly idleRows: number;
  readonly slowKernels: Readonly<Record<string, string>> = SLOW_KERNELS;

  constructor(settings: FlexprefillSettings) {
    this.#settings = settings;
    const { blockSize, minBudget } = settings;
    this.idleRows = Math.max(2 * blockSize, Math.ceil(minBudget / blockSize) * blockSize);
  }

  choose({ stream, q, kv, m, rows, scale, mask, figures }: BlockCall): string | undefined {
    const { gamma, tau, minBudget, maxBudget, blockSize, mode } = this.#settings;
    // Constant texts: receipts count tokens by reason.
    if (rows <= this.idleRows)
      return `up to ${this.idleRows} rows attend densely: the smallest budget is all of them`;
    if (m < BLOCK) return `fewer than the ${BLOCK} queries that FlexPrefill observes`;
    flexprefillBlocks(stream, { mask, figures }, q, kv, {
      scale,
      gamma,
      tau,
      minBlocks: Math.ceil(minBudget / blockSize),
      maxBlocks: maxBudget === null ? undefined : Math.ceil(maxBudget / blockSize),
      block: blockSize,
      compat: mode === 'compat',
    });
    return undefined;
  }

  save(): null {
    return null;
  }

  fork(): BlockChooser {
    return new FlexprefillChooser(this.#settings);
  }

  dispose(): void {
    // Nothing outlives a call.
  }
}
