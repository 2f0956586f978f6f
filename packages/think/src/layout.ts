import { dtypeBytes, type DType, type KvItems } from '@accel/kernels';

/** Rows of an item. */
const ROWS = 16;

/** Bytes of the list of kept channels in front of a head's encoded keys: `header_bytes` of `kernels/think_layout.h`. */
export function headerBytes(channels: number): number {
  return Math.ceil((2 * channels) / 16) * 16;
}

/** How keys with so many channels are stored: 16 rows an item, nothing padded. */
export function keyItems(channels: number, dtype: DType): KvItems {
  return {
    rows: ROWS,
    bytes: ROWS * channels * dtypeBytes(dtype),
    header: headerBytes(channels),
  };
}
