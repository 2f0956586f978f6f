// Random normal tensors. Never zeros: a GPU that multiplies zeros draws less power and runs faster than it will in use.
import { Tensor, toBfloat16 } from '@accel/kernels';

/** No power of two, so that the pattern never lines up with the rows of a matrix. */
const BLOCK = 4_194_301;
let block;
const byDeviation = new Map();

/** Normal numbers (Box and Muller), made once. */
function normals() {
  if (block !== undefined) return block;
  block = new Float32Array(BLOCK);
  let state = 20_261_124;
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 0.5) / 2 ** 32;
  };
  for (let i = 0; i < BLOCK; i += 2) {
    const radius = Math.sqrt(-2 * Math.log(uniform()));
    const angle = 2 * Math.PI * uniform();
    block[i] = radius * Math.cos(angle);
    if (i + 1 < BLOCK) block[i + 1] = radius * Math.sin(angle);
  }
  return block;
}

/** `count` bfloat16 words of normal numbers with this deviation; `offset` starts elsewhere in the pattern. */
export function normalWords(count, deviation = 1, offset = 0) {
  let words = byDeviation.get(deviation);
  if (words === undefined) {
    words = toBfloat16(normals().map((value) => value * deviation));
    byDeviation.set(deviation, words);
  }
  const out = new Uint16Array(count);
  for (let at = 0, from = offset % BLOCK; at < count; from = 0) {
    const part = words.subarray(from, Math.min(BLOCK, from + count - at));
    out.set(part, at);
    at += part.length;
  }
  return out;
}

let seed = 0;

/** A bfloat16 tensor of normal numbers, filled in pieces so that the host needs little memory. */
export function normal(device, stream, shape, deviation = 1) {
  const tensor = Tensor.empty(device, 'bfloat16', shape);
  const flat = tensor.view([tensor.size]);
  const piece = 1 << 26;
  for (let at = 0; at < tensor.size; at += piece) {
    const end = Math.min(tensor.size, at + piece);
    const part = flat.slice(at, end);
    part.write(stream, normalWords(end - at, deviation, (seed += 1_000_003)));
    part.dispose();
  }
  flat.dispose();
  return tensor;
}

/** float32 normal numbers. */
export function normalFloats(device, shape, deviation = 1) {
  const size = shape.reduce((product, extent) => product * extent, 1);
  const values = normals();
  const data = Float32Array.from(
    { length: size },
    (_, i) => values[(i * 7 + 13) % BLOCK] * deviation,
  );
  return Tensor.from(device, data, shape);
}
