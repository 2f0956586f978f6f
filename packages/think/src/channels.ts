import type { Channels, ChooseCall, LayerEnd, PartSetup } from '@accel/core';
import { Tensor } from '@accel/kernels';
import { thinkChannels, thinkQueries, thinkScores } from './ops.js';
import { keptChannels, type ThinkSettings } from './settings.js';

/**
 * ThinK on one sequence. Which rows stay may be known only after a later layer, when the queries of this one are gone; so their
 * mean squares, one number a channel, are kept until the channels are chosen.
 */
export class ThinkChannels implements Channels {
  readonly #setup: PartSetup;
  readonly #settings: ThinkSettings;
  /** float32 `[kvHeads, headDim]`, by layer. */
  readonly #queries = new Map<number, Tensor>();

  constructor(setup: PartSetup, settings: ThinkSettings) {
    this.#setup = setup;
    this.#settings = settings;
  }

  observe({ layer, queries, stream }: LayerEnd): void {
    if (queries === undefined)
      throw new Error('the engine observes as many queries as the part asks for');
    // A prompt that was aborted left some behind.
    this.#queries.get(layer)?.dispose();
    const means = this.#empty();
    this.#queries.set(layer, means);
    thinkQueries(stream, means, queries, this.#settings.groupReduce);
  }

  choose({ layer, kv, rows, stream }: ChooseCall): void {
    const means = this.#queries.get(layer);
    if (means === undefined) throw new Error('the engine shows a layer before channels are chosen');
    using scores = this.#empty();
    thinkScores(stream, scores, means, kv, rows);
    thinkChannels(stream, kv, scores, keptChannels(this.#settings, this.#setup.spec.headDim));
    means.dispose();
    this.#queries.delete(layer);
  }

  /** Channels stand in the pages. */
  save(): null {
    return null;
  }

  verify(header: Uint8Array): string | undefined {
    const { headDim } = this.#setup.spec;
    const kept = keptChannels(this.#settings, headDim);
    const view = new DataView(header.buffer, header.byteOffset, header.byteLength);
    let previous = -1;
    for (let i = 0; i < kept; i++) {
      const channel = view.getUint16(2 * i, true);
      if (channel <= previous || channel >= headDim)
        return `channel ${channel} of ${headDim} after ${previous}`;
      previous = channel;
    }
    return undefined;
  }

  /** Channels are chosen in the first prompt and stand in the pages, so a fork has nothing to take over. */
  fork(): Channels {
    return new ThinkChannels(this.#setup, this.#settings);
  }

  dispose(): void {
    for (const means of this.#queries.values()) means.dispose();
    this.#queries.clear();
  }

  #empty(): Tensor {
    const { device, spec } = this.#setup;
    return Tensor.empty(device, 'float32', [spec.kvHeads, spec.headDim]);
  }
}
