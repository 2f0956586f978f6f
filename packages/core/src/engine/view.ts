import { kvBatch, ops, Tensor } from '@accel/kernels';
import type { Sequence } from '../sequence.js';

/** A look at what a sequence's cache holds now. */
export class CacheView {
  readonly #sequence: Sequence;

  /** @internal Use {@link Sequence.view}. */
  constructor(sequence: Sequence) {
    this.#sequence = sequence;
  }

  /** Rows stored for a layer and kv head. */
  rows(layer: number, head: number): number {
    return this.#sequence.state.kv.rows(layer, head);
  }

  /** Original positions of the stored rows, ascending. */
  async positions(layer: number, head: number): Promise<Int32Array> {
    const { state, model } = this.#sequence;
    const { kvHeads } = model.spec;
    const counts = Array.from({ length: kvHeads }, (_, h) => state.kv.rows(layer, h));
    const most = Math.max(...counts);
    if (most === 0) return new Int32Array(0);
    using out = Tensor.empty(model.device, 'int32', [kvHeads, most]);
    ops.kvRead(model.stream, null, null, out, kvBatch([state.kv], layer));
    const all = (await out.read(model.stream)) as Int32Array;
    return all.slice(head * most, head * most + (counts[head] ?? 0));
  }

  /** Bytes of the cache: pages held, and rows times row size. */
  bytes(): { measured: number; arithmetic: number; pages: number } {
    return this.#sequence.state.kv.bytes();
  }
}
