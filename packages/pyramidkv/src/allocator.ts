import type { Allocator, AllocatorLayer, Allotment } from '@accel/core';
import { fitRows, pyramidRows } from './budgets.js';
import type { PyramidkvSettings } from './settings.js';

/** Rows for the layers of one turn, from the first one that the select part compresses. */
interface Plan {
  readonly turn: number;
  readonly first: number;
  readonly rows: readonly number[];
}

/** PyramidKV on one sequence. What it remembers is the plan of the running turn. */
export class PyramidAllocator implements Allocator {
  readonly #layers: number;
  readonly #settings: PyramidkvSettings;
  #plan: Plan | undefined;
  #last = -1;

  constructor(layers: number, settings: PyramidkvSettings) {
    this.#layers = layers;
    this.#settings = settings;
  }

  prefillEnd(end: AllocatorLayer): Allotment {
    const { layer, turn, average, window, seen } = end;
    // A turn that was aborted begins again with its first layer.
    if (this.#plan?.turn !== turn || layer <= this.#last) this.#plan = undefined;
    this.#last = layer;
    // Everything fits, or the select part leaves this layer alone, or it has no rows to choose besides the window.
    if (average >= seen || average <= window) return { rows: average };
    this.#plan ??= { turn, first: layer, rows: this.#share(end) };
    return { rows: this.#plan.rows[layer - this.#plan.first] ?? average };
  }

  /** In a later turn layers differ in what they hold, and none can keep more than that. */
  #share({ layer, kv, rows, appended, average, window, seen }: AllocatorLayer): readonly number[] {
    const { beta, mode } = this.#settings;
    const layers = this.#layers - layer;
    const shares = pyramidRows({ capacity: average, window, rows: seen, layers, beta }, mode);
    if (mode !== 'exact') return shares;
    // Layers behind this one have not got this turn's tokens yet.
    const available = shares.map((_, i) => (i === 0 ? rows : kv.rows(layer + i, 0) + appended));
    return fitRows(shares, available);
  }

  /** A plan is for one turn. */
  save(): null {
    return null;
  }

  fork(): Allocator {
    return new PyramidAllocator(this.#layers, this.#settings);
  }

  dispose(): void {
    // Nothing but numbers.
  }
}
