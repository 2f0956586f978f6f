import type { LayerEnd, Merger, PartSetup } from '@accel/core';
import { ops, Tensor } from '@accel/kernels';
import { camSmear, type Draw } from './kernels.js';
import type { CamSettings } from './settings.js';

/**
 * CaM on the first prompt, the form of KVCache-Factory and LOOM-Scope: all values but the first and the last are folded
 * forward, one after the other, before the select part cuts the prompt. There the prompt's own attention reads the folded
 * values; here it has been computed before, so the first token is that of the selector alone.
 */
export class CamSmearer implements Merger {
  readonly #setup: PartSetup;
  readonly #settings: CamSettings;
  readonly #draw: Draw;

  /** @param draw for tests, which give their own random numbers and look at the gates */
  constructor(setup: PartSetup, settings: CamSettings, draw: Partial<Draw> = {}) {
    this.#setup = setup;
    this.#settings = settings;
    this.#draw = { gate: settings.gate, seed: settings.seed, ...draw };
  }

  prefillEnd(end: LayerEnd): void {
    const { layer, turn, kv, rows, queries, scale, slidingWindow, stream } = end;
    const { observe, minPrompt = observe + 1, startRatio, denominator } = this.#settings;
    if (turn > 0 || rows < minPrompt) return;
    if (queries === undefined)
      throw new Error('the engine observes as many queries as the part asks for');
    const start = Math.ceil(startRatio * rows);
    const sources = rows - observe - start;
    if (sources <= 0) return;
    const { device, spec } = this.#setup;
    using scores = Tensor.empty(device, 'float32', [spec.kvHeads, rows]);
    const options = { scale, reduce: 'mean', window: slidingWindow } as const;
    ops.observeScores(stream, scores, queries, kv.kv(layer), options);
    kv.own(layer);
    camSmear(stream, kv.kv(layer), scores, this.#draw, {
      layer,
      window: observe,
      start,
      denominator,
    });
    // No row leaves; these may live on in others.
    end.report({ rowsIn: rows, rowsKept: rows - sources });
  }

  save(): null {
    return null;
  }

  fork(): Merger {
    return new CamSmearer(this.#setup, this.#settings, this.#draw);
  }

  dispose(): void {
    // No memory of its own.
  }
}
