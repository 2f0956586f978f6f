import { fileURLToPath } from 'node:url';
import { loadOpLibrary, type KvArg, type Op, type Stream, type Tensor } from '@accel/kernels';

/** The op library of this package; the same path from `src` and from `dist`. */
export const LIBRARY: string = fileURLToPath(
  new URL('../build/Release/accel_h2o.so', import.meta.url),
);
let loaded: Op | undefined;

/**
 * Of each head's rows but the newest `keep`, the one with the smallest tally, and of equal ones the latest: the op of
 * `kernels/h2o_victim.cc`. Enqueues and returns; a NaN fails the stream with `ERR_ACCEL_NAN`.
 *
 * @param out int32 `[kvHeads]`, row numbers
 * @param kv one sequence
 */
export function h2oVictim(
  stream: Stream,
  out: Tensor,
  kv: KvArg,
  tally: number,
  keep: number,
): void {
  loaded ??= loadOpLibrary(LIBRARY).op('h2o_victim');
  stream.run(loaded, out, kv, tally, keep);
}
