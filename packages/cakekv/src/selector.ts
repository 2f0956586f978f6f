import {
  keepBest,
  removeRow,
  unmerged,
  type LayerEnd,
  type PartSetup,
  type Ranking,
  type Selector,
} from '@accel/core';
import { ops, Tensor } from '@accel/kernels';
import { cakeOrder, cakePool, cakeStatistics, cakeVictim } from './ops.js';
import { capacityOf, type CakekvSettings } from './settings.js';

/**
 * CakeKV's selection on one sequence. After a prompt, rows stay by mean and variance of the attention that the last
 * queries paid them; while decoding, each token's own attention says which row leaves.
 */
export class CakeSelector implements Selector {
  readonly #setup: PartSetup;
  readonly #settings: CakekvSettings;
  /** Tally with the attention that rows received last. */
  readonly #attention: number;
  /** Tally with the order in which the original stores rows, when that matters. */
  readonly #order: number | undefined;
  /** Rows kept without a budget part; a share is known with the prompt. */
  #capacity: number | undefined;
  /** int32 `[kvHeads]`; the stream runs in order, so all layers use it. The same one always, so that steps can be replayed. */
  #victims: Tensor | undefined;
  /** For budget parts. */
  readonly ranking: Ranking;

  constructor(setup: PartSetup, settings: CakekvSettings, capacity?: number) {
    this.#setup = setup;
    this.#settings = settings;
    const [attention = 0, order] = setup.tallies;
    this.#attention = attention;
    this.#order = settings.decodeOrder === 'reference' ? order : undefined;
    this.#capacity = capacity;
    this.ranking = {
      capacity: (end) => ({ rows: this.#resolve(end), window: settings.observe }),
      score: (end) => this.#score(end),
    };
  }

  /** Rows that are rightly left alone: the original evicts nothing from a prompt that exceeds the budget by a window. */
  get idleRows(): number {
    const { budget, observe } = this.#settings;
    return ('tokens' in budget ? budget.tokens : observe + 1) + observe;
  }

  prefillEnd(end: LayerEnd): void {
    const most = end.budget ?? this.#resolve(end);
    if (end.rows > most) {
      using scores = this.#score(end);
      if (scores !== undefined) keepBest(end, scores, most);
    }
    end.report({ rowsIn: end.rows, rowsKept: end.kv.rows(end.layer, 0) });
  }

  decodeEnd(end: LayerEnd): void {
    const most = end.budget ?? this.#capacity ?? this.#resolve(end);
    if (end.rows <= most) return;
    if (end.rows === most + 1) this.#removeOne(end);
    else this.#removeMany(end, most);
    end.report({ rowsIn: end.rows, rowsKept: most, ...unmerged(end, end.rows - most) });
  }

  /** Rows per layer on average. */
  #resolve({ seen }: LayerEnd): number {
    this.#capacity = capacityOf(this.#settings, seen);
    return this.#capacity;
  }

  /** Mean and variance of the attention paid to each row, pooled; undefined when all rows are in the window. */
  #score(end: LayerEnd): Tensor | undefined {
    const { layer, kv, rows, queries, scale, slidingWindow, stream } = end;
    if (queries === undefined)
      throw new Error('the engine observes as many queries as the part asks for');
    const { device, spec } = this.#setup;
    const { observe: window, gamma, pool: size } = this.#settings;
    const prefix = rows - window;
    if (prefix <= 0) return undefined;
    using indicator = Tensor.empty(device, 'float32', [spec.kvHeads, rows]);
    const options = { scale, gamma, window, slidingWindow };
    cakeStatistics(stream, { indicator }, queries, kv.kv(layer), options);
    if (this.#order !== undefined) {
      // Best first, as the original stores them; 0 puts the window, and all that comes later, behind.
      using order = Tensor.empty(device, 'float32', [spec.kvHeads, rows]);
      cakePool(stream, order, indicator, { prefix, size, rest: 0 });
      kv.own(layer);
      ops.tallyWrite(stream, kv.kv(layer), order, this.#order);
    }
    const pooled = Tensor.empty(device, 'float32', [spec.kvHeads, rows]);
    cakePool(stream, pooled, indicator, { prefix, size, rest: Infinity });
    return pooled;
  }

  #removeOne(end: LayerEnd): void {
    const { layer, kv, stream } = end;
    const { device, spec } = this.#setup;
    const { observe: window, pool: size } = this.#settings;
    const victims = (this.#victims ??= Tensor.empty(device, 'int32', [spec.kvHeads]));
    const where = { attention: this.#attention, window, size };
    if (this.#order === undefined) cakeVictim(stream, victims, kv.kv(layer), where);
    else {
      kv.own(layer);
      cakeOrder(stream, { victims }, kv.kv(layer), { ...where, order: this.#order });
    }
    removeRow(end, victims, window);
  }

  /** The first step after a prompt or turn that was left alone. */
  #removeMany(end: LayerEnd, most: number): void {
    const { layer, kv, rows, stream } = end;
    const { device, spec } = this.#setup;
    const { observe: window, pool: size } = this.#settings;
    using scores = Tensor.empty(device, 'float32', [spec.kvHeads, rows]);
    if (this.#order === undefined) {
      using attention = Tensor.empty(device, 'float32', [spec.kvHeads, rows]);
      ops.tallyRead(stream, attention, kv.kv(layer), this.#attention);
      cakePool(stream, scores, attention, { prefix: rows - window, size, rest: Infinity });
    } else {
      kv.own(layer);
      const where = { attention: this.#attention, order: this.#order, window, size };
      cakeOrder(stream, { scores }, kv.kv(layer), where);
    }
    keepBest(end, scores, most);
  }

  save(): number | null {
    return this.#capacity ?? null;
  }

  fork(): Selector {
    return new CakeSelector(this.#setup, this.#settings, this.#capacity);
  }

  dispose(): void {
    this.#victims?.dispose();
    this.#victims = undefined;
  }
}
