import { ops, Tensor } from '@accel/kernels';
import type { Batch } from './batch.js';
import { planChunks, planTailChunks, type Chunk } from './chunks.js';
import { bindChunk, type ChunkTensors } from './chunk-tensors.js';
import { endLayer, endPass } from './end-layer.js';
import { runLayer } from './layer.js';
import { ropeTable } from './rope.js';

/** What a pass reads besides weights and caches, on the device. */
export interface PassInputs {
  /** int32 `[rows]` */
  readonly ids: Tensor;
  /** int32 `[rows]` */
  readonly positions: Tensor;
}

/** Brings token ids and positions to the device, always to the same place: a replayed step finds them there. */
export function passInputs(batch: Batch): PassInputs {
  const { stream, workspace } = batch.runtime;
  workspace.trim();
  const positions = batch.scratch('positions', [batch.rows], 'int32');
  positions.write(stream, positionsOf(batch));
  const ids = batch.scratch('ids', [batch.rows], 'int32');
  if (batch.drawn === undefined) ids.write(stream, pack(batch));
  else
    ops.gatherRows(
      stream,
      ids,
      batch.drawn,
      Int32Array.from({ length: batch.rows }, (_, i) => i),
    );
  return { ids, positions };
}

/**
 * One forward pass over a packed batch, layer-major: all rows go through a layer, then the layer's cache is
 * compacted, then the next layer starts. The peak is the hidden states, one layer's whole cache and what the other
 * layers kept (Architecture §5). A decode step is the same pass with one row per sequence.
 *
 * Only enqueues work. Yields after every layer so that the caller can wait, report progress or abort there.
 * @returns float32 logits `[Σ logits, vocab]`, the rows of each sequence in order; owned by the caller. Those of a
 *   decode step are overwritten by the next one.
 */
export function* forwardPass(batch: Batch, inputs: PassInputs): Generator<number, Tensor> {
  const { runtime } = batch;
  const { stream, spec, weights, chunkTokens } = runtime;
  const { ids, positions } = inputs;
  const hidden = batch.scratch('hidden', [batch.rows, spec.hiddenSize]);
  const table = batch.scratch('rope', [batch.rows, spec.rotaryDim / 2, 2], 'float32');
  fillTable(batch, table, positions);
  ops.embedding(stream, hidden, ids, weights.embed);

  const bind = (chunks: readonly Chunk[]): ChunkTensors[] =>
    chunks.map((chunk) => bindChunk(batch, chunk, { hidden, table, positions }));
  const grids = batch.lengths.map((_, item) => batch.grid(item));
  const chunks = bind(planChunks(batch.lengths, chunkTokens, grids));
  const tails = batch.lengths.map((_, item) => batch.tail(item));
  const counted = batch.lengths.map((_, item) => batch.counts(item));
  const lastChunks = bind(planTailChunks(batch.lengths, tails, counted, chunkTokens, grids));
  for (const [layer, layerWeights] of weights.layers.entries()) {
    for (const chunk of layer === spec.layers - 1 ? lastChunks : chunks) {
      runLayer(batch, layer, layerWeights, chunk);
    }
    endLayer(batch, layer);
    yield layer;
  }
  endPass(batch);
  for (const { state, tokens } of batch.items) state.seen += tokens.length;
  return project(batch, hidden);
}

/** Final norm and output projection of the rows that get logits. */
function project(batch: Batch, hidden: Tensor): Tensor {
  const { device, stream, spec, weights } = batch.runtime;
  const rows = logitRows(batch);
  let picked = hidden;
  if (rows.length < batch.rows) {
    picked = batch.scratch('picked', [rows.length, spec.hiddenSize]);
    ops.gatherRows(stream, picked, hidden, rows);
  }
  const normed = batch.scratch('picked normed', [rows.length, spec.hiddenSize]);
  ops.rmsnorm(stream, normed, picked, weights.norm, spec.normEps);
  const shape = [rows.length, spec.vocabSize];
  const logits =
    batch.phase === 'decode'
      ? batch.scratch('logits', shape, 'float32').view(shape)
      : Tensor.empty(device, 'float32', shape);
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
