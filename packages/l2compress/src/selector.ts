import {
  keepBest,
  removeRow,
  unmerged,
  type LayerEnd,
  type PartSetup,
  type Ranking,
  type Selector,
} from '@accel/core';
import { Tensor } from '@accel/kernels';
import { l2compressScores, l2compressVictim } from './norms.js';
import { capacityOf, idleRows, type L2compressSettings } from './settings.js';

/** L2Compress on one sequence, at the end of prompts. It remembers nothing: norms are those of the keys in the cache. */
export class PromptSelector implements Selector {
  protected readonly setup: PartSetup;
  protected readonly settings: L2compressSettings;
  readonly ranking: Ranking;

  constructor(setup: PartSetup, settings: L2compressSettings) {
    this.setup = setup;
    this.settings = settings;
    this.ranking = {
      capacity: (end) => ({
        rows: settings.skipLayers.includes(end.layer) ? end.rows : this.capacity(end),
        // Sinks count as well: no layer may get fewer rows than stay in any case.
        window: settings.sink + settings.recent,
      }),
      score: (end) => (this.prunes(end) ? this.score(end) : undefined),
    };
  }

  get idleRows(): number {
    return idleRows(this.settings);
  }

  prefillEnd(end: LayerEnd): void {
    if (!this.prunes(end)) return;
    const kept = Math.min(end.rows, this.capacity(end));
    if (kept < end.rows) {
      using scores = this.score(end);
      keepBest(end, scores, kept);
    }
    end.report({ rowsIn: end.rows, rowsKept: kept });
  }

  /** Whether this layer is compressed now. */
  protected prunes({ layer, turn, rows }: LayerEnd): boolean {
    const { skipLayers, turns, pruneAfter } = this.settings;
    return !skipLayers.includes(layer) && (turn === 0 || turns === 'every') && rows >= pruneAfter;
  }

  /** Rows to keep. */
  protected capacity({ rows, seen }: LayerEnd): number {
    return capacityOf(this.settings, this.settings.evicts === 'everyStep' ? rows : seen);
  }

  protected score({ layer, kv, rows, stream }: LayerEnd): Tensor {
    const scores = Tensor.empty(this.setup.device, 'float32', [this.setup.spec.kvHeads, rows]);
    l2compressScores(stream, scores, kv.kv(layer), this.settings);
    return scores;
  }

  save(): null {
    return null;
  }

  fork(): Selector {
    return new PromptSelector(this.setup, this.settings);
  }

  dispose(): void {
    // Nothing outlives a call here.
  }
}

/** The same after every token too. */
export class StepSelector extends PromptSelector {
  /** int32 `[kvHeads]`; the stream runs in order, so all layers use it. Always the same one, so that steps can be replayed. */
  #victims: Tensor | undefined;

  decodeEnd(end: LayerEnd): void {
    if (!this.prunes(end)) return;
    const { rows } = end;
    const { sink, recent } = this.settings;
    const share =
      end.budget === undefined ? this.capacity(end) : Math.max(end.budget, sink + recent);
    const kept = Math.min(rows, share);
    if (kept === rows - 1) this.#removeOne(end);
    else if (kept < rows) {
      // A share leaves several rows to go at once.
      using scores = this.score(end);
      keepBest(end, scores, kept);
    }
    end.report({ rowsIn: rows, rowsKept: kept, ...unmerged(end, rows - kept) });
  }

  #removeOne(end: LayerEnd): void {
    const { device, spec } = this.setup;
    const victims = (this.#victims ??= Tensor.empty(device, 'int32', [spec.kvHeads]));
    l2compressVictim(end.stream, victims, end.kv.kv(end.layer), this.settings);
    removeRow(end, victims, this.settings.recent);
  }

  override fork(): Selector {
    return new StepSelector(this.setup, this.settings);
  }

  override dispose(): void {
    this.#victims?.dispose();
    this.#victims = undefined;
  }
}
