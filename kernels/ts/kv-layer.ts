import { dtypeBytes } from './dtype.js';
import type { KvItems, KvShape } from './kv-sequence.js';

/** Rows of a layer of a cache, one number for each head. */
export interface KvLayerRows {
  readonly rows: readonly number[];
  /** Of these, rows whose keys, or values, a codec has encoded. */
  readonly encodedKeys: readonly number[];
  readonly encodedValues: readonly number[];
}

/** Bytes of a layer with such rows as `ops.kvExport` copies it. */
export function kvLayerBytes(shape: KvShape, layer: KvLayerRows): number {
  const { headDim, dtype, tallies = 0, positions = 'stored', encoded = {} } = shape;
  const row = headDim * dtypeBytes(dtype);
  const record = positions === 'stored' ? 4 * (1 + tallies) : 0;
  let bytes = 0;
  for (const [head, rows] of layer.rows.entries()) {
    const keys = layer.encodedKeys[head] ?? 0;
    const values = layer.encodedValues[head] ?? 0;
    bytes += (2 * rows - keys - values) * row + rows * record;
    bytes += streamBytes(encoded.keys, keys) + streamBytes(encoded.values, values);
  }
  return bytes;
}

function streamBytes(items: KvItems | undefined, rows: number): number {
  if (items === undefined) return 0;
  return (items.header ?? 0) + Math.ceil(rows / items.rows) * items.bytes;
}
