import type { Allocator, AllocatorLayer, Allotment, PartSetup } from '@accel/core';
import { Tensor } from '@accel/kernels';
import { allocate, preference } from './allocation.js';
import { cakeStatistics } from './ops.js';
import type { CakekvSettings } from './settings.js';

/** A layer of the prompt whose statistics the device is computing, or which needs none. */
interface Pending {
  readonly rows: number;
  readonly average: number;
  readonly window: number;
  readonly sums?: Promise<Float64Array>;
}

/**
 * CakeKV's allocation on one sequence. After each layer of the first prompt, two numbers are read back from the device,
 * while it works on the next layer; all layers so far are then given their shares anew.
 */
export class CakeAllocator implements Allocator {
  readonly #setup: PartSetup;
  readonly #settings: CakekvSettings;
  /** Rows that a layer may hold once the first prompt is done. */
  readonly #budgets: Map<number, number>;
  readonly #pending = new Map<number, Pending>();
  /** Of the layers that share; in order. */
  readonly #preferences = new Map<number, number>();
  /** Layers that were left out because they fit. */
  #exempt = 0;

  constructor(
    setup: PartSetup,
    settings: CakekvSettings,
    budgets: Iterable<[number, number]> = [],
  ) {
    this.#setup = setup;
    this.#settings = settings;
    this.#budgets = new Map(budgets);
  }

  prefillEnd(layer: AllocatorLayer): Allotment | undefined {
    const { turn, rows, average, window } = layer;
    if (turn > 0) {
      const budget = this.#budgets.get(layer.layer) ?? average;
      return { rows: budget, decode: budget };
    }
    if (layer.layer === 0) this.#begin();
    const fits = rows <= average + window;
    if (fits) {
      this.#exempt += 1;
      this.#budgets.set(layer.layer, average);
      // Without a cascade the last layer settles all, whether it fits or not.
      const last = layer.layer === this.#setup.spec.layers - 1;
      if (this.#settings.cascading || !last || this.#pending.size + this.#preferences.size === 0)
        return { rows, decode: average };
    }
    const sums = fits ? undefined : this.#measure(layer);
    this.#pending.set(layer.layer, { rows, average, window, ...(sums && { sums }) });
    return undefined;
  }

  async settle(layer: number): Promise<ReadonlyMap<number, Allotment>> {
    const shares = new Map<number, Allotment>();
    const pending = this.#pending.get(layer);
    if (pending === undefined) return shares;
    this.#pending.delete(layer);
    const { rows, average, window, sums } = pending;
    const { tau1, tau2, cascading } = this.#settings;
    if (sums === undefined) shares.set(layer, { rows, decode: average });
    else {
      const [dispersion = 0, shift = 0] = await sums;
      this.#preferences.set(layer, preference(dispersion, shift, tau1, tau2));
    }
    const { layers } = this.#setup.spec;
    if (!cascading && layer < layers - 1) return shares;
    const total = (average - window) * (layers - this.#exempt);
    const past = allocate([...this.#preferences.values()], total, rows - window);
    for (const [i, sharing] of [...this.#preferences.keys()].entries()) {
      const budget = (past[i] ?? 0) + window;
      this.#budgets.set(sharing, budget);
      shares.set(sharing, { rows: budget, decode: budget });
    }
    return shares;
  }

  #begin(): void {
    this.#pending.clear();
    this.#preferences.clear();
    this.#exempt = 0;
  }

  /** Starts the statistics of a layer and the way of two numbers to the host. */
  #measure(end: AllocatorLayer): Promise<Float64Array> {
    const { layer, kv, queries, scale, slidingWindow, stream } = end;
    if (queries === undefined)
      throw new Error('the engine observes as many queries as the part asks for');
    using sums = Tensor.empty(this.#setup.device, 'float64', [2]);
    cakeStatistics(stream, { sums }, queries, kv.kv(layer), {
      scale,
      window: queries.shape[0] ?? 0,
      slidingWindow,
    });
    const read = sums.read(stream) as Promise<Float64Array>;
    // A prompt that is given up never asks for it.
    read.catch(() => undefined);
    return read;
  }

  save(): [layer: number, rows: number][] {
    return [...this.#budgets];
  }

  fork(): Allocator {
    return new CakeAllocator(this.#setup, this.#settings, this.#budgets);
  }

  dispose(): void {
    this.#pending.clear();
  }
}
