// Queries and keys that attend as trained models do, for benchmarks of sparse prefill: random ones attend evenly, and every
// block counts. Three things make logits large: distance (rotated constant vectors, whose product depends on it alone), the
// first tokens, and a stretch in the middle that half of the heads look at. How strong they are differs between heads.
import { closeSync, openSync, writeSync } from 'node:fs';
import { KvSequence, ops, PagePool, Tensor } from '@accel/kernels';
import { normalWords } from './data.mjs';
import { LLAMA } from './shapes.mjs';

const { heads, kvHeads, headDim } = LLAMA;
const PIECE = 4096;
const THETA = 500_000;
/** Rotated pairs that carry the distance, and the channels of the other two. */
export const PAIRS = Array.from({ length: 14 }, (_, i) => 16 + 2 * i);
const SINK = [0, 4];
const STRETCH = [4, 8];
const NOISE = 1.28;

/**
 * Sum of the squares on the pairs: the logit of distance 0, times √d. By kv head: with `mixed` the last two look nearly
 * everywhere, with `local` all look at what is near.
 */
const LOCALITIES = {
  mixed: [150, 140, 126, 120, 114, 108, 60, 40],
  local: [180, 176, 170, 164, 158, 152, 146, 140],
};
let locality = LOCALITIES.mixed;

/**
 * A layer of `rows` tokens: queries `[rows, heads, d]` and a cache, bfloat16.
 * @param {'mixed' | 'local'} kind
 * @param {string} [folder] also writes ROWS.q.bin, .k.bin, .v.bin and .json there, for peers
 */
export function structured(device, stream, rows, kind, folder) {
  locality = LOCALITIES[kind];
  const pageBytes = 16 * headDim * 2;
  const pages = kvHeads * 2 * (Math.ceil(rows / 16) + 8);
  const pool = new PagePool(stream, { pageBytes, capacityBytes: pages * pageBytes });
  const sequence = new KvSequence(pool, {
    layers: 1,
    heads: kvHeads,
    headDim,
    dtype: 'bfloat16',
    positions: 'implied',
  });
  const q = Tensor.empty(device, 'bfloat16', [rows, heads, headDim]);
  const files =
    folder === undefined
      ? undefined
      : Object.fromEntries(
          ['q', 'k', 'v'].map((name) => [name, openSync(`${folder}/${rows}.${name}.bin`, 'w')]),
        );
  for (let from = 0; from < rows; from += PIECE) {
    const size = Math.min(PIECE, rows - from);
    const host = {
      q: queries(from, size, rows),
      k: keys(from, size, rows),
      v: normalWords(size * kvHeads * headDim, 1, 7 * from + 3),
    };
    const part = q.slice(from, from + size);
    part.write(stream, host.q);
    part.dispose();
    const [k, v] = ['k', 'v'].map((name) =>
      Tensor.from(device, host[name], [size, kvHeads, headDim], 'bfloat16'),
    );
    const positions = Tensor.from(
      device,
      Int32Array.from({ length: size }, (_, i) => from + i),
      [size],
    );
    sequence.reserve(0, size);
    ops.kvAppend(stream, sequence.kv(0), k, v, positions, Int32Array.of(size));
    for (const tensor of [k, v, positions]) tensor.dispose();
    if (files !== undefined)
      for (const [name, file] of Object.entries(files))
        writeAll(file, new Uint8Array(host[name].buffer));
  }
  if (files !== undefined) {
    for (const file of Object.values(files)) closeSync(file);
    const json = openSync(`${folder}/${rows}.json`, 'w');
    writeSync(json, JSON.stringify({ tokens: rows, heads, kvHeads, headDim }));
    closeSync(json);
  }
  const dispose = () => {
    q.dispose();
    sequence.dispose();
    pool.dispose();
  };
  return { q, kv: () => sequence.kv(0), dispose };
}

/** cos and sin of the pairs' angles at a position. */
function angles(position) {
  return PAIRS.map((pair) => {
    const angle = position * THETA ** (-pair / (headDim / 2));
    return [Math.cos(angle), Math.sin(angle)];
  });
}

function queries(from, size) {
  const group = heads / kvHeads;
  return fill(from, size, heads, 11, (put, head, turned) => {
    rotate(put, turned, locality[Math.floor(head / group)]);
    for (let c = SINK[0]; c < SINK[1]; c++) put(c, 4);
    if (head % 2 === 0) for (let c = STRETCH[0]; c < STRETCH[1]; c++) put(c, 4);
  });
}

function keys(from, size, rows) {
  const middle = Math.floor(rows / 3);
  return fill(from, size, kvHeads, 5, (put, head, turned, position) => {
    rotate(put, turned, locality[head]);
    if (position < 4) for (let c = SINK[0]; c < SINK[1]; c++) put(c, 8);
    if (position >= middle && position < middle + 256)
      for (let c = STRETCH[0]; c < STRETCH[1]; c++) put(c, 5);
  });
}

function rotate(put, turned, total) {
  const u = Math.sqrt(total / PAIRS.length);
  for (const [i, [cos, sin]] of turned.entries()) {
    put(PAIRS[i], u * cos);
    put(PAIRS[i] + headDim / 2, u * sin);
  }
}

const bits = new Uint32Array(1);
const real = new Float32Array(bits.buffer);

/** Noise, with what `shape` puts on top of it. */
function fill(from, size, count, seed, shape) {
  const words = normalWords(size * count * headDim, NOISE, seed * 1_000_003 + from * 977);
  for (let t = 0; t < size; t++) {
    const turned = angles(from + t);
    for (let h = 0; h < count; h++) {
      const at = (t * count + h) * headDim;
      const put = (channel, value) => {
        bits[0] = words[at + channel] << 16;
        real[0] += value;
        // To the nearest bfloat16, ties to even.
        words[at + channel] = (bits[0] + 0x7fff + ((bits[0] >>> 16) & 1)) >>> 16;
      };
      shape(put, h, turned, from + t);
    }
  }
  return words;
}

function writeAll(file, bytes) {
  for (let at = 0; at < bytes.length;) at += writeSync(file, bytes, at, bytes.length - at);
}
