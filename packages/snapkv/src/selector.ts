import { keepBest, type LayerEnd, type PartSetup, type Ranking, type Selector } from '@accel/core';
import { ops, Tensor } from '@accel/kernels';
import { snapkvPool } from './pool.js';
import { capacityOf, type SnapkvSettings } from './settings.js';

/** SnapKV on one sequence. It remembers nothing: each decision is made from the layer at hand. */
export class SnapkvSelector implements Selector {
  readonly #setup: PartSetup;
  readonly #settings: SnapkvSettings;
  /** For budget parts (PyramidKV, CakeKV), which cut where they like. */
  readonly ranking: Ranking;

  constructor(setup: PartSetup, settings: SnapkvSettings) {
    this.#setup = setup;
    this.#settings = settings;
    this.ranking = {
      capacity: (end) => ({
        rows: this.#capacity(end),
        window: Math.min(settings.observe, end.appended),
      }),
      score: (end) => (this.#compresses(end) ? this.#score(end) : undefined),
    };
  }

  /** A prompt of so many rows is rightly left alone; for a share of the prompt, one that fits the window. */
  get idleRows(): number {
    const { budget, observe } = this.#settings;
    return 'tokens' in budget ? budget.tokens : observe + 1;
  }

  prefillEnd(end: LayerEnd): void {
    if (!this.#compresses(end)) return;
    const kept = Math.min(end.rows, this.#capacity(end));
    if (kept < end.rows) {
      using scores = this.#score(end);
      keepBest(end, scores, kept);
    }
    end.report({ rowsIn: end.rows, rowsKept: kept });
  }

  #compresses({ turn }: LayerEnd): boolean {
    return turn === 0 || this.#settings.turns === 'every';
  }

  #capacity({ seen }: LayerEnd): number {
    return capacityOf(this.#settings, seen);
  }

  /** Votes, pooled over neighbouring rows: one op each. */
  #score({ layer, kv, rows, queries, scale, slidingWindow, stream }: LayerEnd): Tensor {
    if (queries === undefined)
      throw new Error('the engine observes as many queries as the part asks for');
    const { device, spec } = this.#setup;
    const { pool, groupReduce } = this.#settings;
    // A later turn may be shorter than the window: then all its queries vote.
    const prefix = rows - (queries.shape[0] ?? 0);
    using votes = Tensor.empty(device, 'float32', [spec.kvHeads, rows]);
    const pooled = Tensor.empty(device, 'float32', [spec.kvHeads, rows]);
    const options = { scale, reduce: groupReduce, window: slidingWindow };
    ops.observeScores(stream, votes, queries, kv.kv(layer), options);
    snapkvPool(stream, pooled, votes, prefix, pool);
    return pooled;
  }

  save(): null {
    return null;
  }

  fork(): Selector {
    return new SnapkvSelector(this.#setup, this.#settings);
  }

  dispose(): void {
    // Nothing outlives a call.
  }
}
