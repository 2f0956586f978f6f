import type { KvSequence } from './kv-sequence.js';

/**
 * Layers of one or more caches as an argument of an op: the first layer of all of them, then the next. Row counts are those
 * at the time of the call.
 */
export class KvArg {
  readonly sequences: readonly KvSequence[];
  readonly layers: readonly number[];

  /** @internal Use `KvSequence.kv` or `kvBatch`. */
  constructor(sequences: readonly KvSequence[], layers: readonly number[]) {
    this.sequences = sequences;
    this.layers = layers;
  }
}
