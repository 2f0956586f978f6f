import { dtypeBytes, type KvEncodeRule, type KvItems, type KvShape } from '@accel/kernels';

/** Rows of one head of a layer, as `KvSequence` keeps them (kernels/src/common/kv_sequence.h). */
export interface HeadRows {
  readonly rows: number;
  /** Rows that left without the others being moved, and the row before which they were. */
  readonly gap: number;
  readonly gapAt: number;
  /** Of the rows, how many oldest keys and values a codec holds. */
  readonly encodedKeys: number;
  readonly encodedValues: number;
  /** Of the rows, how many oldest keys and values have no plain form any more. */
  readonly plainKeys: number;
  readonly plainValues: number;
  /** A codec has been there, so the headers of encoded rows exist. */
  readonly opened: boolean;
}

/** A head without rows. */
export const NO_ROWS: HeadRows = Object.freeze({
  rows: 0,
  gap: 0,
  gapAt: 0,
  encodedKeys: 0,
  encodedValues: 0,
  plainKeys: 0,
  plainValues: 0,
  opened: false,
});

/** The rows that the rules want encoded are, and still have their plain form. */
export function encoded(head: HeadRows, keys?: KvEncodeRule, values?: KvEncodeRule): HeadRows {
  const target = (rule: KvEncodeRule | undefined, now: number): number =>
    rule === undefined
      ? now
      : Math.max(now, Math.floor(Math.max(0, head.rows - rule.keep) / rule.block) * rule.block);
  return {
    ...head,
    opened: true,
    encodedKeys: target(keys, head.encodedKeys),
    encodedValues: target(values, head.encodedValues),
  };
}

/** Pages of one head: in the lists of plain keys, values and records, and of what a codec holds. */
export class PageCounter {
  readonly #shape: KvShape;
  readonly #pageBytes: number;
  readonly #rowsPerPage: number;
  readonly #recordsPerPage: number;

  constructor(shape: KvShape, pageBytes: number) {
    const { headDim, dtype, tallies = 0, positions = 'stored' } = shape;
    this.#shape = shape;
    this.#pageBytes = pageBytes;
    this.#rowsPerPage = Math.floor(pageBytes / (headDim * dtypeBytes(dtype)));
    this.#recordsPerPage = positions === 'stored' ? Math.floor(pageBytes / (4 * (1 + tallies))) : 0;
  }

  /** Pages that a head holds. */
  of(head: HeadRows): number {
    const { keys, values } = this.#shape.encoded ?? {};
    return (
      plainPages(head, head.plainKeys, this.#rowsPerPage) +
      plainPages(head, head.plainValues, this.#rowsPerPage) +
      plainPages(head, 0, this.#recordsPerPage) +
      this.#encodedPages(head, keys, head.encodedKeys) +
      this.#encodedPages(head, values, head.encodedValues)
    );
  }

  #encodedPages({ opened }: HeadRows, items: KvItems | undefined, rows: number): number {
    if (!opened || items === undefined) return 0;
    const bytes = (items.header ?? 0) + Math.ceil(rows / items.rows) * items.bytes;
    return Math.ceil(bytes / this.#pageBytes);
  }
}

/** From the page of the first plain row to that of the last, without those that lie wholly in the gap. */
function plainPages({ rows, gap, gapAt }: HeadRows, first: number, perPage: number): number {
  if (perPage === 0) return 0;
  const all = Math.ceil((rows + gap) / perPage) - Math.floor(first / perPage);
  const dead = Math.floor((gapAt + gap) / perPage) - Math.ceil(gapAt / perPage);
  return all - (gap > 0 ? Math.max(0, dead) : 0);
}
