import type { Tensor } from '@accel/kernels';
import type { Allotment } from '../policy/allocate.js';
import { keepBestScores } from '../policy/evict.js';
import type { LayerEnd } from '../policy/layer-end.js';

interface OpenLayer {
  readonly end: LayerEnd;
  /** Scores of the rows the layer holds now. */
  scores: Tensor;
}

/**
 * Cutting layers to what a budget part gives them. A layer may be cut again while later layers of the prompt are worked
 * on, so its scores stay until the prompt is done.
 */
export class Cuts implements Disposable {
  /** Rows that a layer may hold, by layer. */
  readonly #budgets = new Map<number, number>();
  readonly #open = new Map<number, OpenLayer>();
  readonly #waiting = new Set<number>();

  /** What a layer may hold from now on; undefined while nothing was decided. */
  budget(layer: number): number | undefined {
    return this.#budgets.get(layer);
  }

  /** What {@link budget} was when the sequence was saved. */
  restore(layer: number, rows: number): void {
    this.#budgets.set(layer, rows);
  }

  /** The budget part decides on this layer later. */
  wait(layer: number): void {
    this.#waiting.add(layer);
  }

  /** Whether {@link wait} was called for the layer since the last call of this. */
  waited(layer: number): boolean {
    return this.#waiting.delete(layer);
  }

  /** Takes over the scores of a layer that will be cut. */
  open(end: LayerEnd, scores: Tensor): void {
    this.#open.get(end.layer)?.scores.dispose();
    this.#open.set(end.layer, { end, scores });
  }

  /** Gives a layer its share; rows it does not have are not missed. */
  give(layer: number, allotment: Allotment): void {
    this.#budgets.set(layer, allotment.decode ?? allotment.rows);
    const open = this.#open.get(layer);
    if (open === undefined) return;
    const { end, scores } = open;
    const before = scores.shape[1] ?? 0;
    const kept = keepBestScores(end, scores, Math.min(before, allotment.rows));
    end.report({ rowsIn: before, rowsKept: kept?.shape[1] ?? before });
    if (kept === undefined) return;
    scores.dispose();
    open.scores = kept;
  }

  /** The prompt is done: nothing is cut any more. */
  close(): void {
    for (const { scores } of this.#open.values()) scores.dispose();
    this.#open.clear();
    this.#waiting.clear();
  }

  /** For a fork, between prompts. */
  copy(): Cuts {
    const copy = new Cuts();
    for (const [layer, rows] of this.#budgets) copy.#budgets.set(layer, rows);
    return copy;
  }

  dispose(): void {
    this.close();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
