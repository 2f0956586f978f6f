import { ops, Tensor } from '@accel/kernels';
import type { LayerEnd } from './layer-end.js';

/**
 * Keeps the `rows` best rows of every head of a layer and returns the pages of the others; order stays.
 * @param scores float32 `[kvHeads, rows of the layer]`; the largest stay, of equal ones the older
 * @returns the scores of the rows that stayed when `keepScores`, owned by the caller
 */
export function keepBest(end: LayerEnd, scores: Tensor, rows: number): void {
  keepBestScores(end, scores, rows)?.dispose();
}

/** As {@link keepBest}. @returns the scores of the rows that stayed, owned by the caller; undefined when all did */
export function keepBestScores(
  { kv, layer, stream }: Pick<LayerEnd, 'kv' | 'layer' | 'stream'>,
  scores: Tensor,
  rows: number,
): Tensor | undefined {
  const [heads = 0, all = 0] = scores.shape;
  if (rows >= all) return undefined;
  using index = Tensor.empty(stream.device, 'int32', [heads, rows]);
  ops.topk(stream, index, scores, { k: rows, largest: true });
  const kept = Tensor.empty(stream.device, 'float32', [heads, rows]);
  ops.takeColumns(stream, kept, scores, index);
  kv.compact(layer, index, new Array<number>(heads).fill(rows));
  return kept;
}

/**
 * Takes one row out of every head of a layer, in place, for a decode step: rows between it and the newest `keep` move down
 * by one, the newest stay where they are. The policy's merge part sees the rows first.
 * @param victims int32 `[kvHeads]`, row numbers below rows − keep
 */
export function removeRow(end: LayerEnd, victims: Tensor, keep: number): void {
  const { kv, layer, rows, stream } = end;
  const stale = rows - 1 - keep;
  end.merge?.(victims);
  kv.own(layer);
  ops.kvRemove(stream, kv.kv(layer), victims, keep);
  if (kv.canDrop(layer, stale, 1)) kv.drop(layer, stale, 1);
  else gatherWithout(end, stale);
}

/** For the rare step in which rows left at another place before, for example after the budget has changed. */
function gatherWithout({ kv, layer, rows, stream }: LayerEnd, stale: number): void {
  const { heads } = kv.shape;
  const kept = rows - 1;
  const index = Int32Array.from({ length: heads * kept }, (_, i) => {
    const row = i % kept;
    return row < stale ? row : row + 1;
  });
  using rowsKept = Tensor.from(stream.device, index, [heads, kept]);
  kv.compact(layer, rowsKept, new Array<number>(heads).fill(kept));
}
