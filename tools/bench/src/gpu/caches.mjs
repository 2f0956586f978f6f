// Caches full of normal numbers, without a model.
import { encodeBatch, KvSequence, ops, PagePool, Tensor } from '@accel/kernels';
import { normal } from './data.mjs';
import { LLAMA } from './shapes.mjs';

const { kvHeads, headDim } = LLAMA;
const PIECE = 16384;

/**
 * `count` sequences of `rows` rows in each of `layers` layers.
 * @param {object} options `format`: of a codec, which then encodes what it wants encoded
 * @returns {{ sequences: KvSequence[], dispose: () => void }}
 */
export function caches(device, stream, { count = 1, layers = 1, rows, spare = 64, format }) {
  const pageBytes = 16 * headDim * 2;
  // Rows are there in both forms while they are encoded.
  const copies = format === undefined ? 2.2 : 4.4;
  const pages = count * layers * kvHeads * (copies * Math.ceil((rows + spare) / 16) + 8);
  const pool = new PagePool(stream, { pageBytes, capacityBytes: Math.ceil(pages) * pageBytes });
  const shape = {
    layers,
    heads: kvHeads,
    headDim,
    dtype: 'bfloat16',
    positions: 'implied',
    ...(format && { encoded: format.items }),
  };
  const sequences = Array.from({ length: count }, () => new KvSequence(pool, shape));
  const most = Math.min(PIECE, rows);
  const [k, v] = [0, 1].map(() => normal(device, stream, [most, kvHeads, headDim]));
  for (let from = 0; from < rows; from += most) {
    const size = Math.min(most, rows - from);
    const positions = Tensor.from(
      device,
      Int32Array.from({ length: size }, (_, i) => from + i),
      [size],
    );
    const [keys, values] = [k.slice(0, size), v.slice(0, size)];
    for (const sequence of sequences) {
      for (let layer = 0; layer < layers; layer++) {
        sequence.reserve(layer, size);
        ops.kvAppend(stream, sequence.kv(layer), keys, values, positions, Int32Array.of(size));
      }
    }
    for (const tensor of [positions, keys, values]) tensor.dispose();
  }
  if (format?.rules.keys !== undefined) {
    for (let layer = 0; layer < layers; layer++) {
      encodeBatch(sequences, layer, format.rules, (kv, _, due) =>
        format.encode({ stream, kv, ...due }),
      );
    }
  }
  k.dispose();
  v.dispose();
  const dispose = () => {
    for (const sequence of sequences) sequence.dispose();
    pool.dispose();
  };
  return { sequences, dispose };
}
