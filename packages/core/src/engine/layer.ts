import { ops, type Tensor } from '@accel/kernels';
import type { LayerWeights } from '../models/family.js';
import type { Batch } from './batch.js';
import type { Chunk, Piece } from './chunks.js';
import type { ChunkTensors } from './chunk-tensors.js';
import { keepObserved } from './observe.js';

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
  const { stream, spec } = batch.runtime;
  const { chunk, hidden, normed, q, qFlat, kFlat, vFlat, attended, attendedFlat, inner } = part;
  const keyWeights = [weights.k, weights.v];
  const keyBiases = [weights.kBias ?? null, weights.vBias ?? null];
  ops.rmsnorm(stream, normed, hidden, weights.inputNorm, spec.normEps);
  if (!chunk.output) {
    ops.linearGroup(stream, [kFlat, vFlat], normed, keyWeights, keyBiases);
    appendRows(batch, layer, part, null);
    return;
  }
  const biases = [weights.qBias ?? null, ...keyBiases];
  ops.linearGroup(stream, [qFlat, kFlat, vFlat], normed, [weights.q, ...keyWeights], biases);
  appendRows(batch, layer, part, q);
  keepObserved(batch, chunk, q);
  attend(batch, layer, chunk, attended, q);
  ops.linear(stream, hidden, attendedFlat, weights.o, null, true);

  ops.rmsnorm(stream, normed, hidden, weights.postNorm, spec.normEps);
  ops.gatedLinear(stream, inner, normed, weights.gate, weights.up);
  ops.linear(stream, hidden, inner, weights.down, null, true);
}

/** Rotates queries and keys and puts the chunk's keys, values and positions into the caches. */
function appendRows(batch: Batch, layer: number, part: ChunkTensors, q: Tensor | null): void {
  const { stream, spec } = batch.runtime;
  const { chunk, k, v, table, positions, lengths } = part;
  for (const piece of chunk.pieces) batch.state(piece).kv.reserve(layer, piece.end - piece.begin);
  const kv = batch.kv(chunk.pieces, layer);
  ops.ropeAppend(stream, q, k, v, kv, table, positions, lengths, spec.ropeInterleaved);
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
      const run = whole ? pieces : pieces.slice(from, to);
      const kv = batch.kv(run, layer);
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
