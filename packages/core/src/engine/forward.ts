import { ops, Tensor } from '@accel/kernels';
import type { LayerEnd } from '../policy/select.js';
import type { Batch } from './batch.js';
import { planChunks, planTailChunks, type Chunk } from './chunks.js';
import { runLayer, type ChunkTensors } from './layer.js';
import { ropeTable } from './rope.js';

/**
 * One forward pass over a packed batch, layer-major: all rows go through a layer, then the layer's cache is
 * compacted, then the next layer starts. The peak is the hidden states, one layer's whole cache and what the other
 * layers kept (Architecture §5). A decode step is the same pass with one row per sequence.
 *
 * Only enqueues work. Yields after every layer so that the caller can wait, report progress or abort there.
 * @returns float32 logits `[Σ logits, vocab]`, the rows of each sequence in order; owned by the caller
 */
export function* forwardPass(batch: Batch): Generator<number, Tensor> {
  const { runtime } = batch;
  const { stream, device, spec, dtype, workspace, weights, chunkTokens } = runtime;
  const hidden = workspace.get('hidden', dtype, [batch.rows, spec.hiddenSize]);
  using ids = Tensor.from(device, pack(batch), [batch.rows]);
  using positions = Tensor.from(device, positionsOf(batch), [batch.rows]);
  const table = workspace.get('rope', 'float32', [batch.rows, spec.rotaryDim / 2, 2]);
  fillTable(batch, table, positions);
  ops.embedding(stream, hidden, ids, weights.embed);

  const bind = (chunks: readonly Chunk[]): ChunkTensors[] =>
    chunks.map((chunk) => bindChunk(batch, chunk, hidden, table, positions));
  const chunks = bind(planChunks(batch.lengths, chunkTokens));
  const tails = batch.lengths.map((_, item) => batch.tail(item));
  const lastChunks = bind(planTailChunks(batch.lengths, tails, chunkTokens));
  for (const [layer, layerWeights] of weights.layers.entries()) {
    for (const chunk of layer === spec.layers - 1 ? lastChunks : chunks) {
      runLayer(batch, layer, layerWeights, chunk);
    }
    endLayer(batch, layer);
    yield layer;
  }
  for (const { state, tokens } of batch.items) state.seen += tokens.length;
  return project(batch, hidden);
}

function bindChunk(
  batch: Batch,
  chunk: Chunk,
  hidden: Tensor,
  table: Tensor,
  positions: Tensor,
): ChunkTensors {
  if (chunk.begin === 0 && chunk.end === batch.rows) return { chunk, hidden, table, positions };
  return {
    chunk,
    hidden: hidden.slice(chunk.begin, chunk.end),
    table: table.slice(chunk.begin, chunk.end),
    positions: positions.slice(chunk.begin, chunk.end),
  };
}

/** Lets every selector look at the finished layer and evict. */
function endLayer(batch: Batch, layer: number): void {
  const { spec, stream } = batch.runtime;
  for (const [index, { state, tokens }] of batch.items.entries()) {
    const { selector } = state;
    if (selector === undefined) continue;
    const end = (): LayerEnd => ({
      layer,
      turn: state.turn,
      kv: state.kv,
      rows: state.kv.rows(layer, 0),
      appended: tokens.length,
      seen: state.seen + tokens.length,
      queries: batch.window(index),
      scale: spec.attentionScale,
      stream,
      report: (done) => {
        state.record(layer, done);
      },
    });
    if (batch.phase === 'prefill') selector.prefillEnd(end());
    else selector.decodeEnd?.(end());
  }
}

/** Final norm and output projection of the rows that get logits. */
function project(batch: Batch, hidden: Tensor): Tensor {
  const { stream, device, spec, dtype, workspace, weights } = batch.runtime;
  const rows = logitRows(batch);
  const picked = workspace.get('picked', dtype, [rows.length, spec.hiddenSize]);
  const normed = workspace.get('pickedNormed', dtype, [rows.length, spec.hiddenSize]);
  ops.gatherRows(stream, picked, hidden, rows);
  ops.rmsnorm(stream, normed, picked, weights.norm, spec.normEps);
  const logits = Tensor.empty(device, 'float32', [rows.length, spec.vocabSize]);
  ops.linear(stream, logits, normed, weights.lmHead, null, false);
  return logits;
}

function logitRows(batch: Batch): Int32Array {
  const rows: number[] = [];
  let end = 0;
  for (const { tokens, logits } of batch.items) {
    end += tokens.length;
    for (let row = Math.max(end - logits, end - tokens.length); row < end; row++) rows.push(row);
  }
  return Int32Array.from(rows);
}

function pack(batch: Batch): Int32Array {
  const packed = new Int32Array(batch.rows);
  let at = 0;
  for (const { tokens } of batch.items) {
    packed.set(tokens, at);
    at += tokens.length;
  }
  return packed;
}

function positionsOf(batch: Batch): Int32Array {
  const positions = new Int32Array(batch.rows);
  let at = 0;
  for (const { state, tokens } of batch.items) {
    for (let i = 0; i < tokens.length; i++) positions[at++] = state.seen + i;
  }
  return positions;
}

function fillTable(batch: Batch, table: Tensor, positions: Tensor): void {
  const { stream, rope, spec } = batch.runtime;
  if (spec.rope.kind !== 'dynamic') {
    ropeTable(stream, table, positions, rope.at(0));
    return;
  }
  let at = 0;
  for (const { state, tokens } of batch.items) {
    const end = at + tokens.length;
    using part = table.slice(at, end);
    using where = positions.slice(at, end);
    ropeTable(stream, part, where, rope.at(state.seen + tokens.length));
    at = end;
  }
}
