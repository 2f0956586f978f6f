import { dtypeBytes, type DType } from '@accel/kernels';
import type { ModelSpec } from '../config/spec.js';

/** Rows of keys or values in a page: small enough that a half-empty last page costs less than 5 % at 512 rows. */
const PAGE_ROWS = 16;

/** Bytes of a page of a model's pool. */
export function pageBytesOf({ headDim }: Pick<ModelSpec, 'headDim'>, dtype: DType): number {
  return PAGE_ROWS * headDim * dtypeBytes(dtype);
}

/** Prompt tokens that go through a layer together, unless the caller says otherwise: a GPU wants larger matrix products. */
export function defaultChunkTokens(kind: 'cpu' | 'cuda'): number {
  return kind === 'cpu' ? 512 : 8192;
}
