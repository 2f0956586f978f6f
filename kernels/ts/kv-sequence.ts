import { dtypeIndex, type DType } from './dtype.js';
import { AccelError } from './errors.js';
import { KvArg } from './kv-arg.js';
import type { KvLayerRows } from './kv-layer.js';
import { growValues, native, values, whole } from './native.js';
import type { PagePool } from './page-pool.js';
import { Resource } from './resource.js';
import type { Tensor } from './tensor.js';

/** Geometry of a cache. */
export interface KvShape {
  readonly layers: number;
  /** Key-value heads. */
  readonly heads: number;
  readonly headDim: number;
  /** `float32`, `bfloat16` or `float16`. */
  readonly dtype: DType;
  /**
   * Float32 numbers that every row carries along, wherever it goes: 0 to 16, default 0. They are 0 in new rows;
   * `ops.tally…` write and read them.
   */
  readonly tallies?: number;
  /**
   * `'implied'`: no row ever leaves, except from the end, so the position of row r is r and is not stored. Default
   * `'stored'`.
   */
  readonly positions?: 'stored' | 'implied';
  /** How a codec lays out keys and values that it holds, if there is one. */
  readonly encoded?: { readonly keys?: KvItems; readonly values?: KvItems };
}

/**
 * Layout of encoded rows: after a header, item i holds rows `[i · rows, (i + 1) · rows)`. Bytes are multiples of 16. What is
 * inside is the affair of the op that encodes.
 */
export interface KvItems {
  readonly rows: number;
  readonly bytes: number;
  /** Default 0. */
  readonly header?: number;
}

/** Which of n rows are to be encoded: the oldest `floor((n − keep) / block) · block`, never fewer than there are. */
export interface KvEncodeRule {
  readonly block: number;
  readonly keep: number;
}

/** The most keys and values that a head has to encode. */
export interface KvEncodeDue {
  readonly keys: number;
  readonly values: number;
}

/** Rules for {@link KvSequence.encode}; what has none stays as it is. */
export interface KvEncodeRules {
  readonly keys?: KvEncodeRule;
  readonly values?: KvEncodeRule;
}

/** Size of a cache. */
export interface KvBytes {
  /** Pages it holds × page size. A page shared with a fork counts in both. */
  readonly measured: number;
  /**
   * Plain keys and values × headDim × bytes of the dtype, encoded ones by the share they have of an item, and rows ×
   * 4 · (1 + tallies) where positions are stored.
   */
  readonly arithmetic: number;
  readonly pages: number;
}

/**
 * The KV cache of one sequence: rows of keys, values, original positions and tallies for every (layer, head), in pages
 * of a pool. Layers and heads may hold different numbers of rows. Calls change the bookkeeping at once and enqueue what has
 * to be moved on the pool's stream; they never wait.
 *
 * Row numbers count the rows that are there now, in ascending position.
 */
export class KvSequence extends Resource {
  readonly pool: PagePool;
  readonly shape: KvShape;
  readonly #args: KvArg[] = [];

  /**
   * @param id for internal use
   * @throws AccelError `ERR_ACCEL_ARGUMENT`, `ERR_ACCEL_DTYPE`, `ERR_ACCEL_DISPOSED`
   */
  constructor(pool: PagePool, shape: KvShape, id?: number) {
    super(id ?? create(pool, shape));
    this.pool = pool;
    this.shape = shape;
  }

  /**
   * Makes room for `count` rows after the last one, in every head of a layer. They count as rows at once; fill them
   * with `ops.kvAppend`. A page shared with a fork is copied first.
   * @throws AccelError `ERR_ACCEL_OUT_OF_MEMORY` when the pool is too full; then nothing has changed
   */
  reserve(layer: number, count: number): void {
    native().kvReserve(this.id, whole(layer, 'layer'), whole(count, 'count'));
  }

  /**
   * Keeps some rows of every head of a layer and drops the rest. They are gathered into fresh pages, the old pages go
   * back to the pool.
   * @param index int32 `[heads, k]`: ascending row numbers of each head; entries from `counts[head]` on are ignored
   * @param counts rows each head keeps
   * @throws AccelError `ERR_ACCEL_SHAPE`, `ERR_ACCEL_ARGUMENT` (also when rows are encoded, or have a header for it),
   *   `ERR_ACCEL_OUT_OF_MEMORY`; then nothing has changed. Row numbers that do not exist or do not ascend fail on the
   *   stream.
   */
  compact(layer: number, index: Tensor, counts: ArrayLike<number>): void {
    const heads = this.shape.heads;
    if (counts.length !== heads) {
      throw new AccelError(
        'ERR_ACCEL_ARGUMENT',
        `compact needs one count for each of the ${heads} heads, got ${counts.length}.`,
      );
    }
    const to = heads > values().length ? growValues(heads) : values();
    for (let head = 0; head < heads; head++) to[head] = whole(counts[head] ?? NaN, 'a count');
    native().kvCompact(this.id, whole(layer, 'layer'), index.id);
  }

  /**
   * Removes rows `[at, at + count)` of every head of a layer without moving any: the gap where rows are missing grows,
   * and whole pages inside it go back to the pool.
   * @throws AccelError `ERR_ACCEL_KV_GAP` when the rows do not touch the gap that is already there ({@link canDrop}): use {@link compact}
   */
  drop(layer: number, at: number, count: number): void {
    native().kvDrop(this.id, whole(layer, 'layer'), whole(at, 'at'), whole(count, 'count'));
  }

  /** Whether {@link drop} can take these rows: they are there, and the last ones or next to the gap, if there is one. */
  canDrop(layer: number, at: number, count: number): boolean {
    return native().kvCanDrop(
      this.id,
      whole(layer, 'layer'),
      whole(at, 'at'),
      whole(count, 'count'),
    );
  }

  /** Keeps the first `rows` rows of every head of a layer. */
  truncate(layer: number, rows: number): void {
    native().kvTruncate(this.id, whole(layer, 'layer'), whole(rows, 'rows'));
  }

  /**
   * Hands the oldest rows of a layer over to a codec. Room for what the rules ask for is made, `run` enqueues the op that
   * encodes (it finds those rows in both forms), then the pages of the plain rows go back to the pool. Encoded rows are
   * there for ops with a `kv+` argument only, and do not leave any more. If `run` throws, rows stay plain.
   * @param run gets the layer, and the most rows that a head has to encode: of keys or values, and of each
   * @throws AccelError `ERR_ACCEL_OUT_OF_MEMORY` when the pool is too full; then nothing has changed. `ERR_ACCEL_KV_GAP` when
   *   rows have left in the middle and the cache was not compacted.
   */
  encode(
    layer: number,
    rules: KvEncodeRules,
    run: (kv: KvArg, most: number, due: KvEncodeDue) => void,
  ): void {
    encodeBatch([this], layer, rules, run);
  }

  /** Encoded keys and values of a (layer, head). */
  encodedRows(layer: number, head: number): { keys: number; values: number } {
    native().kvEncoded(this.id, whole(layer, 'layer'), whole(head, 'head'));
    const [keys = 0, encodedValues = 0] = values();
    return { keys, values: encodedValues };
  }

  /** Rows of all heads of a layer. */
  layerRows(layer: number): KvLayerRows {
    const heads = Array.from({ length: this.shape.heads }, (_, head) => head);
    const encoded = heads.map((head) => this.encodedRows(layer, head));
    return {
      rows: heads.map((head) => this.rows(layer, head)),
      encodedKeys: encoded.map(({ keys }) => keys),
      encodedValues: encoded.map((head) => head.values),
    };
  }

  /**
   * Makes room for a layer that was copied out with `ops.kvExport`, to be filled with `ops.kvImport`: as if rows had been
   * appended and some encoded. The layer must be empty.
   * @throws AccelError `ERR_ACCEL_ARGUMENT`; `ERR_ACCEL_OUT_OF_MEMORY` when the pool is too full, then nothing has changed
   */
  restore(layer: number, { rows, encodedKeys, encodedValues }: KvLayerRows): void {
    const { heads } = this.shape;
    const lists = [rows, encodedKeys, encodedValues];
    if (lists.some((list) => list.length !== heads)) {
      throw new AccelError(
        'ERR_ACCEL_ARGUMENT',
        `restore needs rows, encodedKeys and encodedValues of each of the ${heads} heads.`,
      );
    }
    const to = 3 * heads > values().length ? growValues(3 * heads) : values();
    for (const [i, count] of lists.flat().entries()) to[i] = whole(count, 'a count');
    native().kvRestore(this.id, whole(layer, 'layer'));
  }

  /** Rows of a (layer, head). */
  rows(layer: number, head: number): number {
    return native().kvRows(this.id, whole(layer, 'layer'), whole(head, 'head'));
  }

  /** What the cache takes now. */
  bytes(): KvBytes {
    native().kvBytes(this.id);
    const [measured = 0, arithmetic = 0, pages = 0] = values();
    return { measured, arithmetic, pages };
  }

  /** A second cache with the same rows. Pages are shared until one of the two writes to them. */
  fork(): KvSequence {
    return new KvSequence(this.pool, this.shape, native().kvFork(this.id));
  }

  /**
   * Copies the pages of a layer that a fork shares, so that `ops.kvRemove`, `ops.tallyAdd` and other ops may write rows
   * in place without the fork seeing it. Call it before such an op; unless there was a fork since the last call it costs
   * next to nothing.
   * @throws AccelError `ERR_ACCEL_OUT_OF_MEMORY` when the pool is too full; then nothing has changed
   */
  own(layer: number): void {
    native().kvOwn(this.id, whole(layer, 'layer'));
  }

  /** A layer as an argument of an op. */
  kv(layer: number): KvArg {
    return (this.#args[layer] ??= new KvArg([this], [layer]));
  }
}

function create(pool: PagePool, shape: KvShape): number {
  const { positions = 'stored', encoded = {} } = shape;
  const to = values();
  for (const [i, items] of [encoded.keys, encoded.values].entries()) {
    to[3 * i] = whole(items?.rows ?? 0, 'rows of an item');
    to[3 * i + 1] = whole(items?.bytes ?? 0, 'bytes of an item');
    to[3 * i + 2] = whole(items?.header ?? 0, 'header');
  }
  return native().kvCreate(
    pool.id,
    whole(shape.layers, 'layers'),
    whole(shape.heads, 'heads'),
    whole(shape.headDim, 'headDim'),
    dtypeIndex(shape.dtype),
    whole(shape.tallies ?? 0, 'tallies'),
    Number(positions === 'stored'),
  );
}

/** {@link KvSequence.encode} for one or more layers of several caches, with one op for all of them. */
export function encodeBatch(
  sequences: readonly KvSequence[],
  layers: number | readonly number[],
  { keys, values: rule }: KvEncodeRules,
  run: (kv: KvArg, most: number, due: KvEncodeDue) => void,
): void {
  const kv = kvBatch(sequences, layers);
  const begun: [KvSequence, number][] = [];
  const due = { keys: 0, values: 0 };
  let done = false;
  try {
    for (const layer of kv.layers) {
      for (const sequence of sequences) {
        native().kvEncodeBegin(
          sequence.id,
          layer,
          whole(keys?.block ?? 0, 'keys.block'),
          whole(keys?.keep ?? 0, 'keys.keep'),
          whole(rule?.block ?? 0, 'values.block'),
          whole(rule?.keep ?? 0, 'values.keep'),
        );
        begun.push([sequence, layer]);
        const [dueKeys = 0, dueValues = 0] = values();
        due.keys = Math.max(due.keys, dueKeys);
        due.values = Math.max(due.values, dueValues);
      }
    }
    run(kv, Math.max(due.keys, due.values), due);
    done = true;
  } finally {
    for (const [sequence, layer] of begun) native().kvEncodeEnd(sequence.id, layer, Number(done));
  }
}

/**
 * A layer of several caches as one argument: a batch, in this order. All must be of one pool and have the same heads,
 * headDim, dtype, positions, tallies and encoded rows.
 * @param layers several for ops to which every cache of a layer is another one: those of the first layer, then of the next
 */
export function kvBatch(
  sequences: readonly KvSequence[],
  layers: number | readonly number[],
): KvArg {
  const all = typeof layers === 'number' ? [layers] : layers.slice();
  if (sequences.length === 0 || all.length === 0) {
    throw new AccelError(
      'ERR_ACCEL_BATCH',
      'A batch of caches needs at least one sequence and one layer.',
    );
  }
  for (const layer of all) whole(layer, 'layer');
  return new KvArg(sequences.slice(), all);
}
