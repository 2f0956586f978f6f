import { kvBatch, ops, type Tensor } from '@accel/kernels';
import type { LayerWeights } from '../models/family.js';
import type { Batch } from './batch.js';
import type { Chunk, Piece } from './chunks.js';
import { keepObserved } from './observe.js';

/** The tensors of one chunk: views of the packed hidden states and rotary table. */
export interface ChunkTensors {
  readonly chunk: Chunk;
  /** `[C, hidden]`, updated in place. */
  readonly hidden: Tensor;
  /** `[C, r/2, 2]` */
  readonly table: Tensor;
  /** int32 `[C]` */
  readonly positions: Tensor;
}

/**
 * One chunk of rows through one decoder layer:
 * `x += o(attention(rope(q, k), v)); x += down(silu(gate) · up)`, each behind an RMSNorm.
 * Attention sees the cache as it is after the chunk's own rows were appended; eviction comes later.
 */
export function runLayer(
  batch: Batch,
  layer: number,
  weights: LayerWeights,
  part: ChunkTensors,
): void {
  const { runtime } = batch;
  const { stream, spec, dtype, workspace } = runtime;
  const { chunk, hidden, table, positions } = part;
  const rows = chunk.end - chunk.begin;
  const { heads, kvHeads, headDim, hiddenSize, intermediateSize, normEps } = spec;

  const normed = workspace.get('normed', dtype, [rows, hiddenSize]);
  const k = workspace.get('k', dtype, [rows, kvHeads, headDim]);
  const v = workspace.get('v', dtype, [rows, kvHeads, headDim]);
  ops.rmsnorm(stream, normed, hidden, weights.inputNorm, normEps);
  const flatK = workspace.get('k', dtype, [rows, kvHeads * headDim]);
  const flatV = workspace.get('v', dtype, [rows, kvHeads * headDim]);
  ops.linear(stream, flatK, normed, weights.k, weights.kBias ?? null, false);
  ops.linear(stream, flatV, normed, weights.v, weights.vBias ?? null, false);
  const interleaved = runtime.spec.ropeInterleaved;
  ops.rope(stream, k, table, interleaved);
  appendRows(batch, layer, chunk, k, v, positions);
  if (!chunk.output) return;

  const q = workspace.get('q', dtype, [rows, heads, headDim]);
  const attended = workspace.get('attended', dtype, [rows, heads, headDim]);
  const flatQ = workspace.get('q', dtype, [rows, heads * headDim]);
  const flatAttended = workspace.get('attended', dtype, [rows, heads * headDim]);
  ops.linear(stream, flatQ, normed, weights.q, weights.qBias ?? null, false);
  ops.rope(stream, q, table, interleaved);
  keepObserved(batch, chunk, q);
  attend(batch, layer, chunk, attended, q);
  ops.linear(stream, hidden, flatAttended, weights.o, null, true);

  const gate = workspace.get('gate', dtype, [rows, intermediateSize]);
  const up = workspace.get('up', dtype, [rows, intermediateSize]);
  ops.rmsnorm(stream, normed, hidden, weights.postNorm, normEps);
  ops.linear(stream, gate, normed, weights.gate, null, false);
  ops.linear(stream, up, normed, weights.up, null, false);
  ops.swiglu(stream, gate, gate, up);
  ops.linear(stream, hidden, gate, weights.down, null, true);
}

function appendRows(
  batch: Batch,
  layer: number,
  chunk: Chunk,
  k: Tensor,
  v: Tensor,
  positions: Tensor,
): void {
  const sequences = chunk.pieces.map((piece) => batch.state(piece).kv);
  for (const piece of chunk.pieces) batch.state(piece).kv.reserve(layer, piece.end - piece.begin);
  ops.kvAppend(
    batch.runtime.stream,
    kvBatch(sequences, layer),
    k,
    v,
    positions,
    lengths(chunk.pieces),
  );
}

/** Attention of a chunk: one packed call for every run of sequences without an attention of their own. */
function attend(batch: Batch, layer: number, chunk: Chunk, out: Tensor, q: Tensor): void {
  const { stream, spec } = batch.runtime;
  const { pieces } = chunk;
  for (let from = 0; from < pieces.length;) {
    const first = pieces[from] as Piece;
    const own = batch.state(first).selector;
    let to = from + 1;
    if (own?.attend === undefined) {
      while (to < pieces.length && batch.state(pieces[to] as Piece).selector?.attend === undefined)
        to++;
    }
    const last = pieces[to - 1] as Piece;
    const whole = from === 0 && to === pieces.length;
    const begin = first.begin - chunk.begin;
    const end = last.end - chunk.begin;
    const runOut = whole ? out : out.slice(begin, end);
    const runQ = whole ? q : q.slice(begin, end);
    if (own?.attend === undefined) {
      const run = pieces.slice(from, to);
      const kv = kvBatch(
        run.map((piece) => batch.state(piece).kv),
        layer,
      );
      ops.attention(stream, runOut, null, runQ, kv, lengths(run), {
        scale: spec.attentionScale,
        causal: true,
      });
    } else {
      const state = batch.state(first);
      own.attend({
        layer,
        phase: batch.phase,
        out: runOut,
        q: runQ,
        kv: state.kv,
        rows: state.kv.rows(layer, 0),
        m: first.end - first.begin,
        firstPosition: state.seen + first.offset,
        scale: spec.attentionScale,
        stream,
      });
    }
    if (!whole) {
      runOut.dispose();
      runQ.dispose();
    }
    from = to;
  }
}

function lengths(pieces: readonly Piece[]): Int32Array {
  return Int32Array.from(pieces, (piece) => piece.end - piece.begin);
}
