import { ops, type Tensor } from '@accel/kernels';
import type { Batch } from './batch.js';
import type { Chunk } from './chunks.js';

/**
 * Keeps the last `observe` rotated queries of each sequence that wants them, for the selectors of this layer. The
 * rows may come from two chunks, so they are copied into a window of their own.
 */
export function keepObserved(batch: Batch, chunk: Chunk, q: Tensor): void {
  for (const piece of chunk.pieces) {
    const window = batch.window(piece.item);
    if (window === undefined) continue;
    const rows = window.shape[0] ?? 0;
    const firstKept = batch.length(piece.item) - rows;
    const from = Math.max(piece.offset, firstKept);
    const to = piece.offset + (piece.end - piece.begin);
    if (from >= to) continue;
    const source = piece.begin - chunk.begin - piece.offset;
    const picked = Int32Array.from({ length: to - from }, (_, i) => source + from + i);
    using target = window.slice(from - firstKept, to - firstKept);
    ops.gatherRows(batch.runtime.stream, target, q, picked);
  }
}
