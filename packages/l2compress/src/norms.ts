import { fileURLToPath } from 'node:url';
import {
  loadOpLibrary,
  type KvArg,
  type OpLibrary,
  type Stream,
  type Tensor,
} from '@accel/kernels';

/** Rows that stay whatever their norm is. */
export interface Protection {
  /** First rows. */
  readonly sink: number;
  /** Newest rows. */
  readonly recent: number;
}

/** The same path from `src` and from `dist`. */
export const LIBRARY: string = fileURLToPath(
  new URL('../build/Release/accel_l2compress.so', import.meta.url),
);
let loaded: OpLibrary | undefined;
const library = (): OpLibrary => (loaded ??= loadOpLibrary(LIBRARY));

/**
 * Scores rows by their keys: minus the squared norm, summed in float32; protected rows get +∞. The op of
 * `kernels/l2compress_scores.cc`. Enqueues and returns.
 *
 * @param out float32 `[kvHeads, rows]`
 * @param kv a layer of one sequence, with as many rows in every head
 */
export function l2compressScores(
  stream: Stream,
  out: Tensor,
  kv: KvArg,
  { sink, recent }: Protection,
): void {
  stream.run(library().op('l2compress_scores'), out, kv, sink, recent);
}

/**
 * The row of each head with the lowest score, of equal ones the newest: what a top-k of all rows but one would leave
 * out. The op of `kernels/l2compress_victim.cc`. Enqueues and returns.
 *
 * @param out int32 `[kvHeads]`, row numbers
 * @param kv as in {@link l2compressScores}; not all rows are protected
 */
export function l2compressVictim(
  stream: Stream,
  out: Tensor,
  kv: KvArg,
  { sink, recent }: Protection,
): void {
  stream.run(library().op('l2compress_victim'), out, kv, sink, recent);
}
