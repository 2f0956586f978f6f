import { dtypeIndex, type DType } from './dtype.js';
import { AccelError } from './errors.js';
import { KvArg } from './kv-arg.js';
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
}

/** Size of a cache. */
export interface KvBytes {
  /** Pages it holds × page size. A page shared with a fork counts in both. */
  readonly measured: number;
  /** Rows × (2 · headDim · bytes of the dtype + 4 · (1 + tallies)): a key, a value, a position and the tallies. */
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
    super(
      id ??
        native().kvCreate(
          pool.id,
          whole(shape.layers, 'layers'),
          whole(shape.heads, 'heads'),
          whole(shape.headDim, 'headDim'),
          dtypeIndex(shape.dtype),
          whole(shape.tallies ?? 0, 'tallies'),
        ),
    );
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
   * @throws AccelError `ERR_ACCEL_SHAPE`, `ERR_ACCEL_ARGUMENT`, `ERR_ACCEL_OUT_OF_MEMORY`; then nothing has changed.
   *   Row numbers that do not exist or do not ascend fail on the stream.
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
    return (this.#args[layer] ??= new KvArg([this], layer));
  }
}

/**
 * A layer of several caches as one argument: a batch, in this order. All must be of one pool and have the same heads,
 * headDim, dtype and tallies.
 */
export function kvBatch(sequences: readonly KvSequence[], layer: number): KvArg {
  if (sequences.length === 0) {
    throw new AccelError('ERR_ACCEL_BATCH', 'A batch of caches needs at least one sequence.');
  }
  return new KvArg(sequences.slice(), layer);
}
