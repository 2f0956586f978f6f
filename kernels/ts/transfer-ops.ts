/**
 * The built-in ops that copy a layer of a cache out of its pages as it is stored, and back. `ops` has them too.
 *
 * The layer is one block of bytes, the same on every device: head after head, of each the plain keys, the plain values, the
 * stream of encoded keys with its header, that of encoded values, and the records (position, tallies) of all rows, each
 * from the oldest row on and with nothing in between. Gaps are left out. `kvLayerBytes` says how long it is.
 */
import { op } from './builtin-op.js';
import type { KvArg } from './kv-arg.js';
import type { Stream } from './stream.js';
import type { Tensor } from './tensor.js';

/**
 * Copies bytes `[offset, offset + n)` of the block out of the pages. Both numbers are multiples of 4.
 * @param bytes uint8 `[n]` @param kv one sequence
 * @throws AccelError `ERR_ACCEL_SHAPE`, `ERR_ACCEL_DTYPE`; `ERR_ACCEL_ARGUMENT` when the block has no such bytes, or
 *   its rows are to be encoded one day and never were
 */
export function kvExport(stream: Stream, bytes: Tensor, kv: KvArg, offset = 0): void {
  stream.run(op('kv_export'), bytes, kv, offset);
}

/**
 * Copies bytes `[offset, offset + n)` of the block into the pages, where `KvSequence.restore` made room. No page may be
 * shared with a fork ({@link KvSequence.own}). Nothing is looked at: {@link kvCheck} does that.
 * @param kv one sequence @param bytes uint8 `[n]`
 * @throws AccelError as {@link kvExport}
 */
export function kvImport(stream: Stream, kv: KvArg, bytes: Tensor, offset = 0): void {
  stream.run(op('kv_import'), kv, bytes, offset);
}

/**
 * Fails on the stream unless the positions of every head ascend within `[0, limit)` (`ERR_ACCEL_ARGUMENT`) and tallies are
 * numbers (`ERR_ACCEL_NAN`): what other ops rely on and a file may not have.
 * @param kv one sequence
 */
export function kvCheck(stream: Stream, kv: KvArg, limit: number): void {
  stream.run(op('kv_check'), kv, limit);
}
