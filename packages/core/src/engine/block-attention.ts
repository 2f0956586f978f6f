import { ops, type Tensor } from '@accel/kernels';
import { windowOf } from '../config/spec.js';
import { BLOCK } from '../policy/prefill.js';
import type { Batch } from './batch.js';
import type { Piece } from './chunks.js';
import type { SequenceState } from './state.js';

/** Whether attention of the sequence's new tokens is the affair of its prefill part. */
export function choosesBlocks(batch: Batch, state: SequenceState): boolean {
  return batch.phase === 'prefill' && state.chooser !== undefined;
}

/**
 * Attention of some tokens of a prompt in the blocks that the prefill part chooses, unless it cannot choose or would rather
 * not. Which of the two it was, and why, is in the receipt.
 * @param lse float32 `[m, heads]` or null
 * @returns the mask, valid until the next call; undefined when nothing was computed and attention should be dense
 */
export function attendBlocks(
  batch: Batch,
  layer: number,
  piece: Piece,
  out: Tensor,
  q: Tensor,
  lse: Tensor | null,
): Tensor | undefined {
  const { stream, spec } = batch.runtime;
  const state = batch.state(piece);
  const m = piece.end - piece.begin;
  const rows = state.kv.rows(layer, 0);
  const impossible = whyDense(batch, state, layer, m, rows);
  if (impossible !== undefined) {
    state.blocks.dense(layer, m, impossible);
    return undefined;
  }
  const shape = [Math.ceil(m / BLOCK), spec.heads, Math.ceil(rows / (32 * BLOCK))];
  const mask = batch.scratch('block mask', shape, 'int32');
  const kv = state.kv.kv(layer);
  const scale = spec.attentionScale;
  using entry = state.blocks.open(stream, layer, m, rows);
  ops.clock(stream, entry.begin);
  const { figures } = entry;
  const call = { layer, stream, q, kv, m, rows, scale, mask, figures };
  const unwilling = state.chooser?.choose(call);
  if (unwilling !== undefined) {
    state.blocks.cancel();
    state.blocks.dense(layer, m, unwilling);
    return undefined;
  }
  ops.clock(stream, entry.end);
  const { counts } = entry;
  ops.blockSparseAttention(stream, out, lse, q, kv, Int32Array.of(m), { scale, mask, counts });
  return mask;
}

/** The numbers of a prompt that is done go to the receipt. */
export async function settleBlocks(state: SequenceState): Promise<void> {
  const { blocks, parts, reports, runtime } = state;
  if (parts.prefill === undefined) return;
  const choices = await blocks.settle(runtime.stream);
  for (let i = 0; i < choices; i++) reports.act(parts.prefill);
}

/** Why blocks cannot be chosen, as half a sentence. */
function whyDense(
  batch: Batch,
  state: SequenceState,
  layer: number,
  m: number,
  rows: number,
): string | undefined {
  // It bounds the work already, and estimators look at all rows.
  if (windowOf(batch.runtime.spec, layer) > 0) return 'the layer has a sliding window';
  if (batch.encoded(state)) return 'older rows are stored encoded';
  // In a first prompt nothing has left: places in the cache are positions, whatever the selector makes of them later.
  if (state.selector?.attend !== undefined && state.turn > 0)
    return 'keys are used at their place in the cache';
  if (m < BLOCK) return `fewer than ${String(BLOCK)} queries`;
  if ((rows - m) % BLOCK !== 0) return 'the rows before are no whole number of blocks';
  const { kvHeads } = batch.runtime.spec;
  for (let h = 1; h < kvHeads; h++) {
    if (state.kv.rows(layer, h) !== rows) return 'heads hold different numbers of rows';
  }
  return undefined;
}
