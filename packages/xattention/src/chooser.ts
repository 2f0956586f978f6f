import { BLOCK, type BlockCall, type BlockChooser, type PartSetup } from '@accel/core';
import { Tensor } from '@accel/kernels';
import { xattentionBlocks } from './ops.js';
import { checkShape } from './plan.js';
import type { XattentionSettings } from './settings.js';

/** Kernels of the op that run only where a faster one cannot. */
const SLOW_KERNELS = {
  xattention_score_plain:
    'XAttention estimated on the plain kernel, because no fast one takes this head dimension or GPU',
};

/** XAttention on one sequence. It remembers nothing: each choice is made from the queries at hand. */
export class XattentionChooser implements BlockChooser {
  readonly #setup: PartSetup;
  readonly #settings: XattentionSettings;
  readonly slowKernels: Readonly<Record<string, string>> = SLOW_KERNELS;
  /** float64 `[layers, heads]`. */
  readonly #thresholds: Tensor;

  /** @throws AccelError `ERR_ACCEL_POLICY` when there are thresholds for a model of another shape */
  constructor(setup: PartSetup, settings: XattentionSettings) {
    this.#setup = setup;
    this.#settings = settings;
    const { layers, heads } = setup.spec;
    const { threshold, thresholds } = settings;
    if (thresholds !== undefined) checkShape(thresholds, setup.spec);
    const table = Float64Array.from(
      thresholds?.flat() ?? { length: layers * heads },
      (value: unknown) => (typeof value === 'number' ? value : threshold),
    );
    this.#thresholds = Tensor.from(setup.device, table, [layers, heads]);
  }

  get idleRows(): number {
    return Math.max(this.#settings.dense, BLOCK - 1);
  }

  choose({ layer, stream, q, kv, m, rows, scale, mask, figures }: BlockCall): string | undefined {
    const { stride, norm, mode, chunk = 0, dense } = this.#settings;
    if (m < BLOCK) return `fewer than ${BLOCK} queries`;
    if (rows <= dense) return `up to ${dense} tokens attend densely`;
    using slice = this.#thresholds.slice(layer, layer + 1);
    using thresholds = slice.view([this.#setup.spec.heads]);
    const first = mode === 'compat' ? chunk / BLOCK : 0;
    xattentionBlocks(stream, mask, figures, q, kv, { stride, scale, norm, thresholds, first });
    return undefined;
  }

  save(): null {
    return null;
  }

  fork(): BlockChooser {
    return new XattentionChooser(this.#setup, this.#settings);
  }

  dispose(): void {
    this.#thresholds.dispose();
  }
}
