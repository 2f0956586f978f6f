import { resolveBudget, type LayerEnd, type Selector, type SelectorSetup } from '@accel/core';
import { ops, Tensor } from '@accel/kernels';
import { snapkvPool } from './pool.js';
import type { SnapkvSettings } from './settings.js';

/** SnapKV on one sequence. It remembers nothing: each decision is made from the layer at hand. */
export class SnapkvSelector implements Selector {
  readonly #setup: SelectorSetup;
  readonly #settings: SnapkvSettings;

  constructor(setup: SelectorSetup, settings: SnapkvSettings) {
    this.#setup = setup;
    this.#settings = settings;
  }

  /** A prompt of so many rows is rightly left alone; for a share of the prompt, one that fits the window. */
  get idleRows(): number {
    const { budget, observe } = this.#settings;
    return 'tokens' in budget ? budget.tokens : observe + 1;
  }

  prefillEnd(end: LayerEnd): void {
    if (end.turn > 0 && this.#settings.turns === 'first') return;
    const kept = this.#capacity(end);
    if (kept < end.rows) this.#select(end, kept);
    end.report({ rowsIn: end.rows, rowsKept: kept });
  }

  /** Rows to keep. A share of a short prompt never goes below the window and one row more. */
  #capacity({ rows, seen }: LayerEnd): number {
    const { budget, observe } = this.#settings;
    return Math.min(rows, Math.max(resolveBudget(budget, seen), observe + 1));
  }

  /** Votes, pooling, top-k, compaction: one op each. */
  #select({ layer, kv, rows, queries, scale, stream }: LayerEnd, kept: number): void {
    if (queries === undefined)
      throw new Error('the engine observes as many queries as the part asks for');
    const { device, spec } = this.#setup;
    const { pool, groupReduce } = this.#settings;
    // A later turn may be shorter than the window: then all its queries vote.
    const prefix = rows - (queries.shape[0] ?? 0);
    using votes = Tensor.empty(device, 'float32', [spec.kvHeads, rows]);
    using pooled = Tensor.empty(device, 'float32', [spec.kvHeads, rows]);
    using index = Tensor.empty(device, 'int32', [spec.kvHeads, kept]);
    ops.observeScores(stream, votes, queries, kv.kv(layer), { scale, reduce: groupReduce });
    snapkvPool(stream, pooled, votes, prefix, pool);
    ops.topk(stream, index, pooled, { k: kept, largest: true });
    kv.compact(layer, index, new Array<number>(spec.kvHeads).fill(kept));
  }

  fork(): Selector {
    return new SnapkvSelector(this.#setup, this.#settings);
  }

  dispose(): void {
    // Nothing outlives a call.
  }
}
