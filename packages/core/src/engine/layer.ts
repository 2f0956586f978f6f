import { ops, type Tensor } from '@accel/kernels';
import { windowOf } from '../config/spec.js';
import type { LayerWeights } from '../models/bind.js';
import type { Batch } from './batch.js';
import { attendBlocks, choosesBlocks } from './block-attention.js';
import type { Chunk, Piece } from './chunks.js';
import type { ChunkTensors } from './chunk-tensors.js';
import { keepObserved } from './observe.js';
import { runs, Views } from './runs.js';
import { addColumnSums, tallyStep, type Seen } from './signals.js';

/**
 * One chunk of rows through one decoder layer:
 * `x += o(attention(rope(q, k), v)); x += down(silu(gate) · up)`, each behind an RMSNorm; biases and further norms where
 * the family has them.
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
  if (chunk.work === 'rows') {
    ops.linearGroup(stream, [kFlat, vFlat], normed, keyWeights, keyBiases);
    normHeads(batch, part.kHeads, weights.kNorm);
    appendRows(batch, layer, part, null);
    return;
  }
  const biases = [weights.qBias ?? null, ...keyBiases];
  ops.linearGroup(stream, [qFlat, kFlat, vFlat], normed, [weights.q, ...keyWeights], biases);
  normHeads(batch, part.qHeads, weights.qNorm);
  normHeads(batch, part.kHeads, weights.kNorm);
  appendRows(batch, layer, part, q);
  keepObserved(batch, chunk, q);
  attend(batch, layer, chunk, attended, q);
  if (chunk.work === 'attention') return;
  addTo(batch, part, attendedFlat, weights.o, weights.oBias ?? null, weights.attentionOutNorm);

  ops.rmsnorm(stream, normed, hidden, weights.postNorm, spec.normEps);
  ops.gatedLinear(stream, inner, normed, weights.gate, weights.up);
  addTo(batch, part, inner, weights.down, null, weights.mlpOutNorm);
}

/** RMSNorm of every head by itself, in the families that have one. @param heads `[rows · heads, d]` */
function normHeads(batch: Batch, heads: Tensor, weight: Tensor | undefined): void {
  if (weight === undefined) return;
  const { stream, spec } = batch.runtime;
  ops.rmsnorm(stream, heads, heads, weight, spec.normEps);
}

/** Adds a projection to the residual stream; families with a norm after it cannot add while they multiply. */
function addTo(
  batch: Batch,
  { hidden, normed }: ChunkTensors,
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null,
  norm: Tensor | undefined,
): void {
  const { stream, spec } = batch.runtime;
  if (norm === undefined) {
    ops.linear(stream, hidden, x, weight, bias, true);
    return;
  }
  ops.linear(stream, normed, x, weight, bias, false);
  ops.rmsnorm(stream, normed, normed, norm, spec.normEps);
  ops.add(stream, hidden, hidden, normed);
}

/** Rotates queries and keys and puts the chunk's keys, values and positions into the caches. */
function appendRows(batch: Batch, layer: number, part: ChunkTensors, q: Tensor | null): void {
  const { stream, spec } = batch.runtime;
  const { chunk } = part;
  for (const piece of chunk.pieces) batch.state(piece).kv.reserve(layer, piece.end - piece.begin);
  const alike = (a: Piece, b: Piece): boolean => batch.state(a).rowsKey === batch.state(b).rowsKey;
  for (const run of runs(chunk.pieces, alike)) {
    using rows = new Views(chunk, run);
    ops.ropeAppend(
      stream,
      q === null ? null : rows.of(q),
      rows.of(part.k),
      rows.of(part.v),
      batch.kv(run, layer),
      rows.of(part.table),
      rows.of(part.positions),
      lengths(run),
      spec.ropeInterleaved,
    );
  }
}

/** Attention of a chunk: one packed call for every run of sequences without an attention of their own. */
function attend(batch: Batch, layer: number, chunk: Chunk, out: Tensor, q: Tensor): void {
  const { spec } = batch.runtime;
  const { pieces } = chunk;
  const counted = pieces.some((piece) => batch.counts(piece.item));
  const lse = counted
    ? batch.scratch('lse', [chunk.end - chunk.begin, spec.heads], 'float32')
    : null;
  for (const run of runs(pieces, (a, b) => together(batch, a, b))) {
    using rows = new Views(chunk, run);
    attendRun(batch, layer, run, rows.of(out), rows.of(q), lse === null ? null : rows.of(lse));
  }
}

/** Attention of sequences that count alike and have no attention of their own, or of one that has. */
function attendRun(
  batch: Batch,
  layer: number,
  run: readonly Piece[],
  out: Tensor,
  q: Tensor,
  lse: Tensor | null,
): void {
  const { stream, spec } = batch.runtime;
  const first = run[0] as Piece;
  const state = batch.state(first);
  const wanted = batch.counts(first.item) ? lse : null;
  const window = windowOf(spec, layer);
  if (choosesBlocks(batch, state)) {
    const mask = attendBlocks(batch, layer, first, out, q, wanted);
    if (mask !== undefined) {
      if (wanted !== null) count(batch, layer, run, q, wanted, { window, mask });
      return;
    }
  }
  if (state.selector?.attend !== undefined) {
    state.selector.attend({
      layer,
      phase: batch.phase,
      out,
      lse: wanted,
      q,
      kv: state.kv,
      rows: state.kv.rows(layer, 0),
      m: first.end - first.begin,
      firstPosition: state.seen + first.offset,
      scale: spec.attentionScale,
      window,
      stream,
      attended: (query, begin, end, within = window) => {
        if (wanted !== null)
          count(batch, layer, run, query, wanted, { window: within, range: [begin, end] });
      },
    });
    return;
  }
  const kv = batch.kv(run, layer);
  const lens = lengths(run);
  const scale = spec.attentionScale;
  if (batch.encoded(state))
    state.format?.attend({ stream, out, lse: wanted, q, kv, lens, scale, window });
  else ops.attention(stream, out, wanted, q, kv, lens, { scale, causal: true, window });
  if (wanted !== null) count(batch, layer, run, q, wanted, { window });
}

/** Whether two sequences can share an attention call. */
function together(batch: Batch, a: Piece, b: Piece): boolean {
  const [one, other] = [batch.state(a), batch.state(b)];
  if (choosesBlocks(batch, one) || choosesBlocks(batch, other)) return false;
  if (one.selector?.attend !== undefined || other.selector?.attend !== undefined) return false;
  if (one.rowsKey !== other.rowsKey || batch.encoded(one) !== batch.encoded(other)) return false;
  return one.parts === other.parts || one.parts.countsLike(other.parts);
}

function count(
  batch: Batch,
  layer: number,
  run: readonly Piece[],
  q: Tensor,
  lse: Tensor,
  seen: Seen,
): void {
  if (batch.phase === 'decode') {
    tallyStep(batch, layer, run, q, lse, seen);
    return;
  }
  for (const piece of run) {
    using part = new Views({ begin: (run[0] as Piece).begin, end: (run.at(-1) as Piece).end }, [
      piece,
    ]);
    addColumnSums(batch, layer, piece, part.of(q), part.of(lse), seen);
  }
}

function lengths(pieces: readonly Piece[]): Int32Array {
  return Int32Array.from(pieces, (piece) => piece.end - piece.begin);
}
