// The small ops of a layer and the draw of a token. In a decode step they are bound by the launch of a kernel, in a
// prefill by memory.
import { blockFormats, ops, Tensor } from '@accel/kernels';
import { caches } from './caches.mjs';
import { normal, normalFloats } from './data.mjs';
import { LLAMA } from './shapes.mjs';

const { hidden, intermediate, heads, kvHeads, headDim, vocab } = LLAMA;

export async function elementwiseKernels(context) {
  for (const rows of [1, 8, 4096]) {
    await norm(context, rows, hidden);
    // Qwen3: every query head by itself.
    await norm(context, rows * heads, headDim);
    await ropeAppend(context, rows);
  }
  for (const format of ['Q8_0', 'Q4_0', 'Q4_K', 'Q6_K']) await unpack(context, format);
  for (const batch of [1, 8]) {
    await sample(context, batch, 'greedy', 0);
    await sample(context, batch, 'temperature 0.7, top-p 0.9', 0.7);
  }
}

/** Enough copies of an activation that a prefill reads it from memory. */
const copies = (rows) => (rows >= 4096 ? 6 : 1);

async function norm({ device, stream, bench }, rows, width) {
  const cycle = copies(rows);
  const xs = Array.from({ length: cycle }, () => normal(device, stream, [rows, width]));
  const outs = xs.map(() => Tensor.empty(device, 'bfloat16', [rows, width]));
  const weight = normal(device, stream, [width]);
  const call = (i) => ops.rmsnorm(stream, outs[i], xs[i], weight, 1e-5);
  await bench('rmsnorm', `M=${rows} H=${width}`, { bytes: 2 * xs[0].byteLength }, call, cycle);
  for (const tensor of [...xs, ...outs, weight]) tensor.dispose();
}

/** A matrix of a GGUF file that is loaded, to bfloat16. */
async function unpack({ device, stream, bench }, format) {
  const shape = [intermediate, hidden];
  const { elements, bytes } = blockFormats[format];
  const row = (hidden / elements) * bytes;
  // Any bytes are blocks; the time does not depend on the numbers.
  const words = Uint8Array.from({ length: intermediate * row }, (_, i) => (i * 2654435761) >>> 24);
  const packed = Tensor.from(device, words, [intermediate, row]);
  const out = Tensor.empty(device, 'bfloat16', shape);
  const call = () => ops.dequantize(stream, out, packed, format);
  const moved = packed.byteLength + out.byteLength;
  await bench('dequantize', `${format} ${shape.join(' × ')}`, { bytes: moved }, call);
  for (const tensor of [packed, out]) tensor.dispose();
}

async function ropeAppend({ device, stream, bench }, rows) {
  const cycle = copies(rows);
  const { sequences, dispose } = caches(device, stream, {
    layers: cycle,
    rows: Math.max(rows, 64),
  });
  const sets = Array.from({ length: cycle }, () => ({
    q: normal(device, stream, [rows, heads, headDim]),
    k: normal(device, stream, [rows, kvHeads, headDim]),
    v: normal(device, stream, [rows, kvHeads, headDim]),
  }));
  // Of unit length, as a rotation is: otherwise numbers would grow from call to call.
  const angles = Float32Array.from({ length: (rows * headDim) / 2 }, (_, i) => i % 97);
  const table = Tensor.from(
    device,
    Float32Array.from({ length: rows * headDim }, (_, i) =>
      (i % 2 === 0 ? Math.cos : Math.sin)(angles[i >> 1]),
    ),
    [rows, headDim / 2, 2],
  );
  const positions = Tensor.from(
    device,
    Int32Array.from({ length: rows }, (_, i) => i),
    [rows],
  );
  const lens = Int32Array.of(rows);
  const call = (i) => {
    const { q, k, v } = sets[i];
    ops.ropeAppend(stream, q, k, v, sequences[0].kv(i), table, positions, lens);
  };
  const { q, k, v } = sets[0];
  const bytes = 2 * q.byteLength + 2 * k.byteLength + 2 * v.byteLength + table.byteLength;
  await bench('rope_append', `M=${rows}, ${heads}+${kvHeads} heads`, { bytes }, call, cycle);
  for (const set of sets) for (const tensor of Object.values(set)) tensor.dispose();
  for (const tensor of [table, positions]) tensor.dispose();
  dispose();
}

async function sample({ device, stream, bench }, batch, kind, temperature) {
  const logits = normalFloats(device, [batch, vocab], 3);
  const floats = (value) => Tensor.from(device, new Float32Array(batch).fill(value), [batch]);
  const out = Tensor.empty(device, 'int32', [batch]);
  const topK = Tensor.from(device, new Int32Array(batch), [batch]);
  const uniform = Tensor.from(device, new Float64Array(batch).fill(0.37), [batch]);
  const [heat, topP, minP] = [floats(temperature), floats(temperature === 0 ? 1 : 0.9), floats(0)];
  const call = () => ops.sample(stream, out, logits, heat, topK, topP, minP, uniform);
  await bench(
    'sample',
    `${kind}, batch ${batch}, ${vocab} logits`,
    { bytes: logits.byteLength },
    call,
  );
  for (const tensor of [logits, out, topK, uniform, heat, topP, minP]) tensor.dispose();
}
