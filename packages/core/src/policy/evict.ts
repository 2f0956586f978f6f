import { ops, Tensor } from '@accel/kernels';
import type { LayerEnd } from './layer-end.js';

type Layer = Pick<LayerEnd, 'kv' | 'layer' | 'stream'>;

/**
 * Keeps the `rows` best rows of every head of a layer and returns the pages of the others; order stays.
 * @param scores float32 `[kvHeads, rows of the layer]`; the largest stay, of equal ones the older
 */
export function keepBest(end: Layer, scores: Tensor, rows: number): void {
  using index = chooseBest(end, scores, rows);
  if (index !== undefined) keepChosen(end, index);
}

/** As {@link keepBest}. @returns the scores of the rows that stayed, owned by the caller; undefined when all did */
export function keepBestScores(end: Layer, scores: Tensor, rows: number): Tensor | undefined {
  using index = chooseBest(end, scores, rows);
  if (index === undefined) return undefined;
  const kept = Tensor.empty(end.stream.device, 'float32', index.shape);
  ops.takeColumns(end.stream, kept, scores, index);
  keepChosen(end, index);
  return kept;
}

/** int32 `[kvHeads, rows]`, or undefined when that is all of them. */
function chooseBest({ stream }: Layer, scores: Tensor, rows: number): Tensor | undefined {
  const [heads = 0, all = 0] = scores.shape;
  if (rows >= all) return undefined;
  const index = Tensor.empty(stream.device, 'int32', [heads, rows]);
  ops.topk(stream, index, scores, { k: rows, largest: true });
  return index;
}

function keepChosen({ kv, layer }: Layer, index: Tensor): void {
  const [heads = 0, rows = 0] = index.shape;
  kv.compact(layer, index, new Array<number>(heads).fill(rows));
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
  else cutRows(end, stale, 1);
}

/**
 * For a selector's report: merging is defined for rows that leave one by one, so when `leaving` rows go at once the
 * receipt says that the policy's merge part got none of them. Empty where nothing was to be merged.
 */
export function unmerged({ merge }: Pick<LayerEnd, 'merge'>, leaving: number): { note?: string } {
  if (merge === undefined || leaving <= 1) return {};
  return { note: 'rows that left several at a time were not merged' };
}

/**
 * Takes rows `[at, at + count)` out of every head of a layer and gathers the others. `kv.drop` would move none, but it leaves
 * a gap where they were: this is for rows that leave somewhere else than others before, or before a codec encodes the rest.
 */
export function cutRows(
  { kv, layer, rows, stream }: Layer & Pick<LayerEnd, 'rows'>,
  at: number,
  count: number,
): void {
  const { heads } = kv.shape;
  const kept = rows - count;
  const index = Int32Array.from({ length: heads * kept }, (_, i) => {
    const row = i % kept;
    return row < at ? row : row + count;
  });
  using rowsKept = Tensor.from(stream.device, index, [heads, kept]);
  kv.compact(layer, rowsKept, new Array<number>(heads).fill(kept));
}
