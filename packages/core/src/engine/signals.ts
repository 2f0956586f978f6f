import { kvBatch, ops, type Tensor } from '@accel/kernels';
import { countsDecode, countsPrompt, type TallyRequest } from '../policy/tally.js';
import type { Batch } from './batch.js';
import type { Piece } from './chunks.js';
import type { PolicyParts } from './parts.js';

/** Which of the rows before them some queries attended. */
export interface Seen {
  /** Positions of the sliding window; 0: no limit. */
  readonly window: number;
  /** Rows `[begin, end)`, the same in every sequence. Default all. */
  readonly range?: readonly [number, number];
  /** Blocks, when a sparse prefill chose some. Default all. */
  readonly mask?: Tensor;
}

/**
 * How the sums of a prompt are reduced over the query heads while they are added up. Sums and means of chunks add; for
 * anything else the query heads stay apart until the prompt is done.
 */
export function sumsReduce(parts: PolicyParts): ops.GroupReduce {
  const reduces = new Set(
    parts.tallies.filter(countsPrompt).map((request) => (request as { reduce: string }).reduce),
  );
  const [only] = reduces;
  return reduces.size === 1 && (only === 'mean' || only === 'sum') ? only : 'none';
}

/** Column sums of one sequence's prompt in the layer at hand, float32 `[Hs, rows]`; rows of the whole turn. */
function sumsOf(batch: Batch, item: number, rows: number): Tensor {
  const { spec } = batch.runtime;
  const { parts } = batch.item(item).state;
  const heads = sumsReduce(parts) === 'none' ? spec.heads : spec.kvHeads;
  return batch.scratch(`column sums ${String(item)}`, [heads, rows], 'float32');
}

/**
 * Adds the attention of a chunk's queries to the sums of its sequence. A query's row of the softmax is final within
 * its own chunk, because all rows that it may see are there, so the sums over chunks are exact.
 */
export function addColumnSums(
  batch: Batch,
  layer: number,
  piece: Piece,
  q: Tensor,
  lse: Tensor,
  { window, range, mask }: Seen,
): void {
  const { stream, spec } = batch.runtime;
  const { state, tokens } = batch.item(piece.item);
  const rows = state.kv.rows(layer, 0);
  const rest = tokens.length - piece.offset - (piece.end - piece.begin);
  ops.columnSums(stream, sumsOf(batch, piece.item, rows + rest), q, lse, state.kv.kv(layer), {
    scale: spec.attentionScale,
    reduce: sumsReduce(state.parts),
    accumulate: piece.offset > 0,
    window,
    ...(range && { range }),
    ...(mask && { mask }),
  });
}

/** The prompt is done in a layer: its sums go to the tallies of the rows. */
export function tallyPrompt(batch: Batch, item: number, layer: number): void {
  const { state } = batch.item(item);
  const { parts, kv } = state;
  if (!batch.counts(item)) return;
  const { stream } = batch.runtime;
  const sums = sumsOf(batch, item, kv.rows(layer, 0));
  kv.own(layer);
  for (const [tally, request] of parts.tallies.entries()) {
    if (request.kind === 'attention' && request.of !== 'steps')
      ops.tallyAdd(stream, kv.kv(layer), sums, tally, request.reduce);
  }
}

/**
 * Adds the attention of a decode step to the tallies of all rows, for sequences that count the same way.
 * @param q `[B, Hq, d]` @param lse float32 `[B, Hq]`
 */
export function tallyStep(
  batch: Batch,
  layer: number,
  pieces: readonly Piece[],
  q: Tensor,
  lse: Tensor,
  { window, range }: Omit<Seen, 'mask'>,
): void {
  const [first] = pieces;
  if (first === undefined) return;
  const { stream, spec } = batch.runtime;
  const { tallies } = batch.state(first).parts;
  const sequences = pieces.map((piece) => batch.state(piece).kv);
  for (const kv of sequences) kv.own(layer);
  const kv = pieces.length === 1 ? batch.state(first).kv.kv(layer) : kvBatch(sequences, layer);
  const ranges =
    range === undefined ? undefined : Int32Array.from(pieces.flatMap(() => [...range]));
  for (const [tally, request] of tallies.entries()) {
    if (!countsDecode(request)) continue;
    ops.tallyStep(stream, kv, q, lse, {
      scale: spec.attentionScale,
      tally,
      reduce: (request as Exclude<TallyRequest, { kind: 'own' }>).reduce,
      accumulate: request.kind === 'attention',
      window,
      ...(ranges && { ranges }),
    });
  }
}
