import type { Tensor } from '@accel/kernels';
import type { Batch } from './batch.js';
import type { Chunk } from './chunks.js';

/** The tensors of one chunk. Every layer uses the same ones: ops run in order, so a layer may overwrite the last. */
export interface ChunkTensors {
  readonly chunk: Chunk;
  /** `[C, hidden]`, updated in place: a view of the pass's hidden states. */
  readonly hidden: Tensor;
  /** Rotary table, `[C, r/2, 2]` */
  readonly table: Tensor;
  /** int32 `[C]` */
  readonly positions: Tensor;
  /** `[C, hidden]`, behind an RMSNorm */
  readonly normed: Tensor;
  /** `[C, Hq, d]`, and flat for the matrix products: `[C, Hq · d]`. The same for the others. */
  readonly q: Tensor;
  readonly qFlat: Tensor;
  /** A head a row, for norms over heads: `[C · Hq, d]`. */
  readonly qHeads: Tensor;
  readonly k: Tensor;
  readonly kFlat: Tensor;
  readonly kHeads: Tensor;
  readonly v: Tensor;
  readonly vFlat: Tensor;
  readonly attended: Tensor;
  readonly attendedFlat: Tensor;
  /** `[C, intermediate]` */
  readonly inner: Tensor;
}

/** The pass's tensors that chunks are views of: all packed rows. */
export interface PassTensors {
  readonly hidden: Tensor;
  readonly table: Tensor;
  readonly positions: Tensor;
}

/** Looks up a chunk's tensors, once a pass. */
export function bindChunk(batch: Batch, chunk: Chunk, pass: PassTensors): ChunkTensors {
  const { heads, kvHeads, headDim, hiddenSize, intermediateSize } = batch.runtime.spec;
  const rows = chunk.end - chunk.begin;
  const whole = rows === batch.rows;
  const part = (tensor: Tensor): Tensor => (whole ? tensor : tensor.slice(chunk.begin, chunk.end));
  const flat = (name: string, width: number): Tensor => batch.scratch(name, [rows, width]);
  const split = (name: string, count: number): Tensor =>
    batch.scratch(name, [rows, count, headDim]);
  return {
    chunk,
    hidden: part(pass.hidden),
    table: part(pass.table),
    positions: part(pass.positions),
    normed: flat('normed', hiddenSize),
    q: split('q', heads),
    qFlat: flat('q', heads * headDim),
    qHeads: batch.scratch('q', [rows * heads, headDim]),
    k: split('k', kvHeads),
    kFlat: flat('k', kvHeads * headDim),
    kHeads: batch.scratch('k', [rows * kvHeads, headDim]),
    v: split('v', kvHeads),
    vFlat: flat('v', kvHeads * headDim),
    attended: split('attended', heads),
    attendedFlat: flat('attended', heads * headDim),
    inner: flat('inner', intermediateSize),
  };
}
