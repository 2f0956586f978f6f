import { fileURLToPath } from 'node:url';
import { loadOpLibrary, type Op, type Stream, type Tensor } from '@accel/kernels';

/** Attention of some queries over a set of keys. */
export interface Share {
  /** `[T, Hq, d]` */
  readonly out: Tensor;
  /** Log-sum-exp of the scaled logits, float32 `[T, Hq]`; -∞ where a query saw no key. */
  readonly lse: Tensor;
}

/** The op library; the same path from `src` and from `dist`. */
export const LIBRARY: string = fileURLToPath(
  new URL('../build/Release/accel_streamingllm.so', import.meta.url),
);
let loaded: Op | undefined;

/**
 * Joins the attention over two disjoint sets of keys: the op of `kernels/streamingllm_merge.cc`. Enqueues and returns.
 *
 * @param out `[T, Hq, d]`, same type as the parts
 * @param lse float32 `[T, Hq]` of the union, or null
 */
export function streamingllmMerge(
  stream: Stream,
  out: Tensor,
  lse: Tensor | null,
  a: Share,
  b: Share,
): void {
  loaded ??= loadOpLibrary(LIBRARY).op('streamingllm_merge');
  stream.run(loaded, out, lse, a.out, a.lse, b.out, b.lse);
}
