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
 * Splits packed rows into chunks of at most `chunkTokens` rows, in order.
 * @param lengths new tokens of each sequence
 */
export function planChunks(lengths: readonly number[], chunkTokens: number): Chunk[] {
  const pieces = lengths.map((length, item) => ({
    item,
    from: 0,
    to: length,
    work: 'all' as const,
  }));
  return pack(lengths, pieces, chunkTokens);
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
): Chunk[] {
  const spans = lengths.flatMap((length, item): Span[] => {
    const cut = Math.max(0, length - (tails[item] ?? length));
    return [
      { item, from: 0, to: cut, work: counted[item] === true ? 'attention' : 'rows' },
      { item, from: cut, to: length, work: 'all' },
    ];
  });
  return pack(lengths, spans, chunkTokens);
}

interface Span {
  readonly item: number;
  readonly from: number;
  readonly to: number;
  readonly work: Work;
}

function pack(lengths: readonly number[], spans: readonly Span[], chunkTokens: number): Chunk[] {
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
    for (let from = span.from; from < span.to;) {
      if (open !== undefined && open.work !== span.work) close();
      open ??= { begin: start + from, end: start + from, pieces: [], work: span.work };
      const room = chunkTokens - (open.end - open.begin);
      const to = Math.min(span.to, from + room);
      open.pieces.push({ item: span.item, begin: start + from, end: start + to, offset: from });
      open.end = start + to;
      from = to;
      if (open.end - open.begin >= chunkTokens) close();
    }
  }
  close();
  return chunks;
}
