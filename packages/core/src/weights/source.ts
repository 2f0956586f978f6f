import type { BlockFormat, Tensor } from '@accel/kernels';
import type { TensorInfo } from './header.js';

/** A weight as its file holds it. */
export interface StoredWeight {
  /** The mapped bytes: the weight itself, or with {@link packed} uint8 `[out, bytes of a row]`. */
  readonly data: Tensor;
  /** Of the weight: `[out, in]` or `[size]`. */
  readonly shape: readonly number[];
  /** Name of the block format that the rows are quantised in; without one `data` holds plain floats. */
  readonly packed?: BlockFormat;
}

/** The checked contents of a checkpoint's weight files, whatever their format. Tensor data is read when it is used. */
export interface WeightSource extends Disposable {
  /** Folder or file the weights are in, for messages. */
  readonly path: string;
  /** Names of all tensors. */
  readonly names: readonly string[];
  has(name: string): boolean;
  /** @throws AccelError `ERR_ACCEL_WEIGHTS` when there is none of the name */
  info(name: string): TensorInfo;
  /**
   * A weight that reads the mapped file. It stays valid after the source is disposed; the caller disposes `data`.
   * @throws AccelError `ERR_ACCEL_WEIGHTS` when there is none, or its format cannot be computed with
   */
  weight(name: string): StoredWeight;
}
