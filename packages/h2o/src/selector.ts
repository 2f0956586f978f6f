import {
  keepBest,
  removeRow,
  unmerged,
  type LayerEnd,
  type PartSetup,
  type Ranking,
  type Selector,
  type TurnStart,
} from '@accel/core';
import { ops, Tensor } from '@accel/kernels';
import { limitsOf, split, type H2oSettings, type Limits } from './settings.js';
import { h2oVictim } from './victim.js';

/** H2O on one sequence. Scores are tallies that follow the rows; what it holds itself is which row leaves next. */
export class H2oSelector implements Selector {
  readonly #setup: PartSetup;
  readonly #settings: H2oSettings;
  readonly #tally: number;
  /** A budget that is a share of the first prompt is known only with it. */
  #limits: Limits | undefined;
  /** int32 `[kvHeads]`; the stream runs in order, so all layers use it. The same one always, so that steps can be replayed. */
  #victims: Tensor | undefined;
  /** For budget parts, which share out the budgets of all layers. */
  readonly ranking: Ranking;

  constructor(setup: PartSetup, settings: H2oSettings, limits?: Limits) {
    this.#setup = setup;
    this.#settings = settings;
    this.#tally = setup.tallies[0] ?? 0;
    this.#limits = limits ?? limitsOf(settings);
    this.ranking = {
      capacity: () => {
        const { rows, recent } = this.#started();
        return { rows, window: recent };
      },
      score: (end) => (this.#evicts(end) ? this.#score(end, this.#started().recent) : undefined),
    };
  }

  /** Rows up to which nothing has to go. */
  get idleRows(): number {
    return this.#limits?.rows ?? Infinity;
  }

  turnStart({ tokens }: Pick<TurnStart, 'tokens'>): void {
    this.#limits ??= limitsOf(this.#settings, tokens);
  }

  prefillEnd(end: LayerEnd): void {
    if (this.#evicts(end)) this.#cut(end);
  }

  decodeEnd(end: LayerEnd): void {
    if (this.#settings.evicts === 'prefillEnd') return;
    const { rows, recent } = this.#limitsOf(end);
    if (end.rows !== rows + 1) {
      this.#cut(end);
      return;
    }
    const { device, spec } = this.#setup;
    const victims = (this.#victims ??= Tensor.empty(device, 'int32', [spec.kvHeads]));
    h2oVictim(end.stream, victims, end.kv.kv(end.layer), this.#tally, recent);
    removeRow(end, victims, recent);
    end.report({ rowsIn: end.rows, rowsKept: rows });
  }

  #evicts({ turn }: LayerEnd): boolean {
    return turn === 0 || this.#settings.evicts === 'everyStep';
  }

  /** Keeps the best rows of a layer that has too many. */
  #cut(end: LayerEnd): void {
    const { rows, recent } = this.#limitsOf(end);
    const kept = Math.min(end.rows, rows);
    if (kept < end.rows) {
      using scores = this.#score(end, recent);
      keepBest(end, scores, kept);
    }
    end.report({ rowsIn: end.rows, rowsKept: kept, ...unmerged(end, end.rows - kept) });
  }

  #score({ layer, kv, rows, stream }: LayerEnd, recent: number): Tensor {
    const { device, spec } = this.#setup;
    const scores = Tensor.empty(device, 'float32', [spec.kvHeads, rows]);
    ops.tallyRead(stream, scores, kv.kv(layer), this.#tally, { last: Math.min(recent, rows) });
    return scores;
  }

  /** What the layer at hand may hold: a budget part's word goes before the own budget. */
  #limitsOf({ budget }: LayerEnd): Limits {
    const own = this.#started();
    return budget === undefined ? own : split(budget, own.recent);
  }

  #started(): Limits {
    if (this.#limits === undefined) throw new Error('a turn starts before its first layer');
    return this.#limits;
  }

  save(): { rows: number; recent: number } | null {
    return this.#limits === undefined ? null : { ...this.#limits };
  }

  fork(): Selector {
    return new H2oSelector(this.#setup, this.#settings, this.#limits);
  }

  dispose(): void {
    this.#victims?.dispose();
    this.#victims = undefined;
  }
}
