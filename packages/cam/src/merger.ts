import type { LayerEnd, Merger, PartSetup } from '@accel/core';
import type { Tensor } from '@accel/kernels';
import { camMerge, type Draw } from './kernels.js';
import type { CamSettings } from './settings.js';

/** CaM while decoding, on one sequence. Attention is counted in tallies that follow the rows, so there is nothing to keep. */
export class CamMerger implements Merger {
  readonly #setup: PartSetup;
  readonly #settings: CamSettings;
  readonly #draw: Draw;

  /** @param draw for tests, which give their own random numbers and look at the gates */
  constructor(setup: PartSetup, settings: CamSettings, draw: Partial<Draw> = {}) {
    this.#setup = setup;
    this.#settings = settings;
    this.#draw = { gate: settings.gate, seed: settings.seed, ...draw };
  }

  merge(end: LayerEnd, victim: number | Tensor): void {
    const { layer, kv, rows, stream } = end;
    kv.own(layer);
    camMerge(stream, kv.kv(layer), victim, this.#draw, {
      ...this.#settings,
      layer,
      tally: this.#setup.tallies[0] ?? 0,
    });
    // A row's value lives on in others.
    end.report({ rowsIn: rows, rowsKept: rows - 1 });
  }

  save(): null {
    return null;
  }

  fork(): Merger {
    return new CamMerger(this.#setup, this.#settings, this.#draw);
  }

  dispose(): void {
    // No memory of its own.
  }
}
