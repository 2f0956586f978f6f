import { BLOCK } from '../policy/prefill.js';

/** A run of packed rows that belong to one sequence of the batch. */
export interface Piece {
  /** Index of the sequence in the batch. */
  readonly item: number;
  /** Packed rows `[begin, end)`. */
  readonly begin: number;
  readonly end: number;
  /** Offset of `begin` inside the sequence's new tokens. */
  readonly offset: number;
}

/** Packed rows that go through a layer together. */
export interface Chunk {
  readonly begin: number;
  readonly end: number;
  readonly pieces: readonly Piece[];
  readonly work: Work;
}

/**
 * What a layer has to compute of its rows: everything; their attention, because somebody counts it, but not the layer's
 * output, which nothing reads; or keys and values only.
 */
export type Work = 'all' | 'attention' | 'rows';

/**
 * Where a sequence that chooses blocks is cut: after so many of its new tokens, and from there on at multiples of the chunk's
 * whole blocks, whatever it shares a batch with. Its choices are made a piece at a time, so they must not depend on that.
 */
export type Grid = number | undefined;

/**
 * Splits packed rows into chunks of at most `chunkTokens` rows, in order.
 * @param lengths new tokens of each sequence
 */
export function planChunks(
  lengths: readonly number[],
  chunkTokens: number,
  grids: readonly Grid[] = [],
): Chunk[] {
  const pieces = lengths.map((length, item) => ({
    item,
    from: 0,
    to: length,
    work: 'all' as const,
  }));
  return pack(lengths, pieces, chunkTokens, grids);
}

/**
 * The same for the last layer: of each sequence only the last `tails[i]` rows are read afterwards (logits, observed
 * queries), so the rows before them need no output, and their attention only where it is counted.
 */
export function planTailChunks(
  lengths: readonly number[],
  tails: readonly number[],
  counted: readonly boolean[],
  chunkTokens: number,
  grids: readonly Grid[] = [],
): Chunk[] {
  const spans = lengths.flatMap((length, item): Span[] => {
    const cut = blockStart(Math.max(0, length - (tails[item] ?? length)), length, grids[item]);
    return [
      { item, from: 0, to: cut, work: counted[item] === true ? 'attention' : 'rows' },
      { item, from: cut, to: length, work: 'all' },
    ];
  });
  return pack(lengths, spans, chunkTokens, grids);
}

interface Span {
  readonly item: number;
  readonly from: number;
  readonly to: number;
  readonly work: Work;
}

/** A tail in which blocks are chosen begins with a block; one that is shorter than a block attends densely anyway. */
function blockStart(cut: number, length: number, grid: Grid): number {
  if (grid === undefined || cut <= grid || length - cut < BLOCK) return cut;
  return cut - ((cut - grid) % BLOCK);
}

/** Where a piece that starts at `from` has to end at the latest. */
function pieceEnd(from: number, chunkTokens: number, grid: number): number {
  if (from < grid) return grid;
  const step = Math.max(BLOCK, chunkTokens - (chunkTokens % BLOCK));
  return from + step - ((from - grid) % step);
}

function pack(
  lengths: readonly number[],
  spans: readonly Span[],
  chunkTokens: number,
  grids: readonly Grid[],
): Chunk[] {
  const starts: number[] = [];
  let total = 0;
  for (const length of lengths) {
    starts.push(total);
    total += length;
  }
  const chunks: Chunk[] = [];
  let open: { begin: number; end: number; pieces: Piece[]; work: Work } | undefined;
  const close = (): void => {
    if (open !== undefined) chunks.push(open);
    open = undefined;
  };
  for (const span of spans) {
    const start = starts[span.item] ?? 0;
    const grid = grids[span.item];
    for (let from = span.from; from < span.to;) {
      const whole =
        grid === undefined ? 0 : Math.min(span.to, pieceEnd(from, chunkTokens, grid)) - from;
      if (open !== undefined && open.work !== span.work) close();
      if (open !== undefined && open.end - open.begin + whole > chunkTokens) close();
      // A chunk's rows are all in the cache before its attention, which ends each piece's causal mask at the newest row.
      if (open !== undefined && open.pieces.at(-1)?.item === span.item) close();
      open ??= { begin: start + from, end: start + from, pieces: [], work: span.work };
      const room = chunkTokens - (open.end - open.begin);
      const to = grid === undefined ? Math.min(span.to, from + room) : from + whole;
      open.pieces.push({ item: span.item, begin: start + from, end: start + to, offset: from });
      open.end = start + to;
      from = to;
      if (open.end - open.begin >= chunkTokens) close();
    }
  }
  close();
  return chunks;
}
