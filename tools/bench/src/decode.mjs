// Decode of a model too big for the cache, as a share of the machine's copy bandwidth. The model is a Llama of about
// 0.5 G parameters with random bfloat16 weights (1 GB, written to a temporary folder); each token reads every weight once.
import { mkdtempSync, openSync, rmSync, closeSync, writeFileSync, writeSync } from 'node:fs';
import { randomFillSync } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadModel } from '@accel/core';
import { Device, ops, Tensor } from '@accel/kernels';
import { tokens } from './tokens.mjs';

const SPEC = {
  hidden: 2048,
  layers: 8,
  intermediate: 8192,
  vocab: 4096,
  heads: 16,
  kvHeads: 8,
  headDim: 128,
};
const DECODE = 24;

const folder = mkdtempSync(join(tmpdir(), 'accel-decode-'));
try {
  const bytes = writeModel(folder);
  const copy = await copyBandwidth();
  const seconds = await decodeSeconds(folder);
  const rate = bytes / seconds;
  console.log(
    `decode: ${(bytes / 1e9).toFixed(2)} GB of bfloat16 weights a token, ${(1 / seconds).toFixed(1)} tok/s, ` +
      `${(rate / 1e9).toFixed(1)} GB/s read; copy ${(copy / 1e9).toFixed(1)} GB/s (read + written); ` +
      `${((100 * rate) / copy).toFixed(0)} % of copy bandwidth`,
  );
} finally {
  rmSync(folder, { recursive: true, force: true });
}

/** Writes config.json and model.safetensors; returns the bytes that a decode step reads. */
function writeModel(dir) {
  const { hidden, layers, intermediate, vocab, heads, kvHeads, headDim } = SPEC;
  const shapes = { 'model.embed_tokens.weight': [vocab, hidden], 'model.norm.weight': [hidden] };
  for (let layer = 0; layer < layers; layer++) {
    const at = `model.layers.${layer}`;
    Object.assign(shapes, {
      [`${at}.input_layernorm.weight`]: [hidden],
      [`${at}.post_attention_layernorm.weight`]: [hidden],
      [`${at}.self_attn.q_proj.weight`]: [heads * headDim, hidden],
      [`${at}.self_attn.k_proj.weight`]: [kvHeads * headDim, hidden],
      [`${at}.self_attn.v_proj.weight`]: [kvHeads * headDim, hidden],
      [`${at}.self_attn.o_proj.weight`]: [hidden, heads * headDim],
      [`${at}.mlp.gate_proj.weight`]: [intermediate, hidden],
      [`${at}.mlp.up_proj.weight`]: [intermediate, hidden],
      [`${at}.mlp.down_proj.weight`]: [hidden, intermediate],
    });
  }
  let end = 0;
  const header = {};
  for (const [name, shape] of Object.entries(shapes)) {
    const size = 2 * shape.reduce((product, extent) => product * extent, 1);
    header[name] = { dtype: 'BF16', shape, data_offsets: [end, (end += size)] };
  }
  const json = Buffer.from(
    JSON.stringify(header).padEnd(Math.ceil(JSON.stringify(header).length / 8) * 8),
  );
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  const file = openSync(join(dir, 'model.safetensors'), 'w');
  writeSync(file, length);
  writeSync(file, json);
  const block = randomWeights(1 << 24);
  for (let at = 0; at < end; at += block.byteLength)
    writeSync(file, block, 0, Math.min(block.byteLength, end - at));
  closeSync(file);
  const config = {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    hidden_size: hidden,
    intermediate_size: intermediate,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    head_dim: headDim,
    vocab_size: vocab,
    max_position_embeddings: 4096,
    rope_theta: 10000,
    rms_norm_eps: 1e-5,
    tie_word_embeddings: true,
    hidden_act: 'silu',
    torch_dtype: 'bfloat16',
  };
  writeFileSync(join(dir, 'config.json'), JSON.stringify(config));
  return end;
}

/** Random bfloat16 numbers of magnitude 2^-7 to 2^-5, either sign. */
function randomWeights(count) {
  const words = new Uint16Array(count);
  randomFillSync(words);
  for (let i = 0; i < count; i++) words[i] = (words[i] & 0x80ff) | 0x3c00;
  return words;
}

/** Bytes read and written a second by a parallel copy of 512 MB, best of five. */
async function copyBandwidth() {
  const device = Device.open('cpu');
  const stream = device.createStream();
  const [rows, columns] = [1 << 13, 1 << 14];
  const from = Tensor.from(device, new Float32Array(rows * columns).fill(1.5), [rows, columns]);
  const to = Tensor.empty(device, 'float32', [rows, columns]);
  const all = Int32Array.from({ length: rows }, (_, row) => row);
  let best = Infinity;
  for (let round = 0; round < 6; round++) {
    const started = performance.now();
    ops.gatherRows(stream, to, from, all);
    await stream.synchronize();
    if (round > 0) best = Math.min(best, (performance.now() - started) / 1000);
  }
  const { byteLength } = from;
  for (const resource of [from, to, stream]) resource.dispose();
  return (2 * byteLength) / best;
}

/** Seconds of a decode step, median. */
async function decodeSeconds(dir) {
  const model = await loadModel(dir, { kvBytes: 1 << 28 });
  const sequence = model.sequence();
  await sequence.append(tokens(32, SPEC.vocab));
  const times = [];
  let last = performance.now();
  for await (const _ of sequence.generate({ maxTokens: DECODE + 2, ignoreEos: true })) {
    const now = performance.now();
    times.push((now - last) / 1000);
    last = now;
  }
  sequence.dispose();
  model.dispose();
  // The first two draws do not wait for a whole step.
  const steps = times.slice(2).sort((a, b) => a - b);
  return steps[Math.floor(steps.length / 2)];
}
