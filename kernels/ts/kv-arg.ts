import type { KvSequence } from './kv-sequence.js';

/** One layer of one or more caches as an argument of an op. Row counts are those at the time of the call. */
export class KvArg {
  readonly sequences: readonly KvSequence[];
  readonly layer: number;

  /** @internal Use `KvSequence.kv` or `kvBatch`. */
  constructor(sequences: readonly KvSequence[], layer: number) {
    this.sequences = sequences;
    this.layer = layer;
  }
}
