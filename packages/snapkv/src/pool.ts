import { fileURLToPath } from 'node:url';
import { loadOpLibrary, type Op, type Stream, type Tensor } from '@accel/kernels';

/** How votes are spread over neighbouring keys. */
export interface Pool {
  readonly kind: 'avg' | 'max';
  /** Columns under the kernel; odd, 1 changes nothing. */
  readonly size: number;
}

/** The op library; the same path from `src` and from `dist`. */
export const LIBRARY: string = fileURLToPath(
  new URL('../build/Release/accel_snapkv.so', import.meta.url),
);
let loaded: Op | undefined;

/**
 * Pools the votes of the prefix and protects the rest: the op of `kernels/snapkv_pool.cc`. Enqueues and returns.
 *
 * @param out float32 `[heads, rows]`; columns from `prefix` on become +∞
 * @param scores float32 `[heads, rows]`
 */
export function snapkvPool(
  stream: Stream,
  out: Tensor,
  scores: Tensor,
  prefix: number,
  pool: Pool,
): void {
  loaded ??= loadOpLibrary(LIBRARY).op('snapkv_pool');
  stream.run(loaded, out, scores, prefix, pool.size, pool.kind === 'avg' ? 0 : 1);
}
