import { kvLayerBytes, ops, Tensor, type KvLayerRows, type KvSequence } from '@accel/kernels';

/** What stands in front of the encoded keys of every head of a layer. */
export async function keyHeaders(kv: KvSequence, layer: number): Promise<Uint8Array[]> {
  const { shape } = kv;
  const { stream } = kv.pool;
  const size = shape.encoded?.keys?.header ?? 0;
  if (size === 0) return [];
  const all = kv.layerRows(layer);
  const heads = (begin: number, end: number): KvLayerRows => ({
    rows: all.rows.slice(begin, end),
    encodedKeys: all.encodedKeys.slice(begin, end),
    encodedValues: all.encodedValues.slice(begin, end),
  });
  // A header follows the blocks of other heads and the plain rows of its own.
  const { encoded: _, tallies: __, ...rest } = shape;
  const plain = { ...rest, positions: 'implied' } as const;
  using headers = Tensor.empty(stream.device, 'uint8', [shape.heads * size]);
  for (let head = 0; head < shape.heads; head++) {
    using header = headers.slice(head * size, (head + 1) * size);
    const offset = kvLayerBytes(shape, heads(0, head)) + kvLayerBytes(plain, heads(head, head + 1));
    ops.kvExport(stream, header, kv.kv(layer), offset);
  }
  const bytes = (await headers.read(stream)) as Uint8Array;
  return Array.from({ length: shape.heads }, (_, i) => bytes.subarray(i * size, (i + 1) * size));
}
