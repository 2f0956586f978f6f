// Writes a Llama checkpoint of random normal bfloat16 weights (deviation 0.02, norms 1) in shards, as Hugging Face
// lays them out, so that every system can load the same files.
// With `structured`, attention is local instead of even, for benchmarks of sparse prefill: sixteen channels of all embeddings
// are the same, and the projections of queries and keys turn them into vectors whose rotated product falls with distance
// (structured.mjs). The residual branches are small, so that these channels stay what they are through all layers.
// With `sparse`, files have headers and holes behind them: weights are zeros and take neither time nor space.
import {
  closeSync,
  existsSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { toBfloat16 } from '@accel/kernels';
import { normalWords } from './data.mjs';
import { PAIRS } from './structured.mjs';

const PIECE = 1 << 25;
/** As in structured.mjs, for a model in which XAttention computes about as many blocks of 128K tokens as its paper says. */
const LOCALITY = [150, 155, 160, 165, 168, 172, 176, 180];

/** @returns {{ bytes: number, written: boolean, seconds: number }} what is in `folder` afterwards */
export function writeModel(folder, spec) {
  const config = configOf(spec);
  const shape = spec.sparse === true ? undefined : wordsFor(spec);
  const shards = shardsOf(spec);
  const bytes = shards.flatMap(Object.values).reduce((sum, shape) => sum + 2 * size(shape), 0);
  const started = performance.now();
  const done = join(folder, 'complete');
  const stamp = JSON.stringify({
    ...config,
    structured: spec.structured === true,
    sparse: spec.sparse === true,
  });
  if (existsSync(done) && readFileSync(done, 'utf8') === stamp)
    return { bytes, written: false, seconds: 0 };
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const map = {};
  shards.forEach((shapes, i) => {
    const name = `model-${pad(i + 1)}-of-${pad(shards.length)}.safetensors`;
    for (const tensor of Object.keys(shapes)) map[tensor] = name;
    writeShard(join(folder, name), shapes, shape);
  });
  const index = { metadata: { total_size: bytes }, weight_map: map };
  writeFileSync(join(folder, 'model.safetensors.index.json'), JSON.stringify(index));
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config, null, 2));
  writeFileSync(done, stamp);
  return { bytes, written: true, seconds: (performance.now() - started) / 1000 };
}

const wordsFor = (spec) => (spec.structured === true ? structuredWords(spec) : plainWords);
const pad = (n) => String(n).padStart(5, '0');
const size = (shape) => shape.reduce((product, extent) => product * extent, 1);

function configOf({ hidden, intermediate, layers, heads, kvHeads, headDim, vocab }) {
  return {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    hidden_size: hidden,
    intermediate_size: intermediate,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    head_dim: headDim,
    vocab_size: vocab,
    max_position_embeddings: 1 << 18,
    rope_theta: 500000,
    rms_norm_eps: 1e-5,
    hidden_act: 'silu',
    attention_bias: false,
    mlp_bias: false,
    tie_word_embeddings: false,
    bos_token_id: 128000,
    eos_token_id: 128001,
    torch_dtype: 'bfloat16',
  };
}

/** Four layers a shard; embedding, last norm and output matrix in one of their own. */
function shardsOf({ hidden, intermediate, layers, heads, kvHeads, headDim, vocab }) {
  const shards = [
    {
      'model.embed_tokens.weight': [vocab, hidden],
      'model.norm.weight': [hidden],
      'lm_head.weight': [vocab, hidden],
    },
  ];
  for (let layer = 0; layer < layers; layer++) {
    if (layer % 4 === 0) shards.push({});
    const at = `model.layers.${layer}`;
    Object.assign(shards.at(-1), {
      [`${at}.input_layernorm.weight`]: [hidden],
      [`${at}.self_attn.q_proj.weight`]: [heads * headDim, hidden],
      [`${at}.self_attn.k_proj.weight`]: [kvHeads * headDim, hidden],
      [`${at}.self_attn.v_proj.weight`]: [kvHeads * headDim, hidden],
      [`${at}.self_attn.o_proj.weight`]: [hidden, heads * headDim],
      [`${at}.post_attention_layernorm.weight`]: [hidden],
      [`${at}.mlp.gate_proj.weight`]: [intermediate, hidden],
      [`${at}.mlp.up_proj.weight`]: [intermediate, hidden],
      [`${at}.mlp.down_proj.weight`]: [hidden, intermediate],
    });
  }
  return shards;
}

function writeShard(path, shapes, wordsOf) {
  let end = 0;
  const header = { __metadata__: { format: 'pt' } };
  for (const [name, shape] of Object.entries(shapes)) {
    header[name] = { dtype: 'BF16', shape, data_offsets: [end, (end += 2 * size(shape))] };
  }
  const text = JSON.stringify(header);
  const json = Buffer.from(text.padEnd(Math.ceil(text.length / 8) * 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  const file = openSync(path, 'w');
  writeSync(file, length);
  writeSync(file, json);
  if (wordsOf === undefined) ftruncateSync(file, length.length + json.length + end);
  else writeTensors(file, shapes, wordsOf);
  closeSync(file);
}

function writeTensors(file, shapes, wordsOf) {
  let offset = 0;
  for (const [name, shape] of Object.entries(shapes)) {
    for (let left = size(shape); left > 0;) {
      const count = Math.min(PIECE, left);
      const words = wordsOf(name, size(shape) - left, count, (offset += 1_000_003));
      writeAll(file, new Uint8Array(words.buffer));
      left -= count;
    }
  }
}

const ONE = 0x3f80;

/** Elements [at, at + count) of a tensor. */
function plainWords(name, at, count, offset) {
  if (name.endsWith('norm.weight')) return new Uint16Array(count).fill(ONE);
  return normalWords(count, 0.02, offset);
}

/** The same for `structured`. PIECE is whole rows. */
function structuredWords({ hidden, heads, kvHeads, headDim }) {
  const [shared, level] = [16, 4];
  const half = headDim / 2;
  return (name, at, count, offset) => {
    if (name.endsWith('norm.weight')) return plainWords(name, at, count, offset);
    if (name.endsWith('embed_tokens.weight')) {
      const words = normalWords(count, 1, offset);
      const [word] = toBfloat16(Float32Array.of(level));
      for (let row = 0; row < count; row += hidden) words.fill(word, row, row + shared);
      return words;
    }
    const branch = /(o_proj|down_proj)\.weight$/.test(name);
    const words = normalWords(count, branch ? 0.0005 : 0.02, offset);
    const projection = /([qk])_proj\.weight$/.exec(name);
    if (projection === null) return words;
    const group = projection[1] === 'q' ? heads / kvHeads : 1;
    const norm = Math.sqrt((hidden - shared + shared * level ** 2) / hidden);
    for (let row = 0; row < count; row += hidden) {
      const [head, channel] = [
        Math.floor((at + row) / hidden / headDim),
        Math.floor((at + row) / hidden) % headDim,
      ];
      if (channel >= half || !PAIRS.includes(channel)) continue;
      const total = LOCALITY[Math.floor(head / group)];
      const u = Math.sqrt(total / PAIRS.length);
      const [word] = toBfloat16(Float32Array.of((u * norm) / (shared * level)));
      words.fill(word, row, row + shared);
    }
    return words;
  };
}

/** One write may take less than it is given. */
function writeAll(file, bytes) {
  for (let at = 0; at < bytes.length;) at += writeSync(file, bytes, at, bytes.length - at);
}
