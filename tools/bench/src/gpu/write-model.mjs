// Writes a Llama checkpoint of random normal bfloat16 weights (deviation 0.02, norms 1) in shards, as Hugging Face
// lays them out, so that every system can load the same files.
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { normalWords } from './data.mjs';

const PIECE = 1 << 25;

/** @returns {{ bytes: number, written: boolean, seconds: number }} what is in `folder` afterwards */
export function writeModel(folder, spec) {
  const config = configOf(spec);
  const shards = shardsOf(spec);
  const bytes = shards.flatMap(Object.values).reduce((sum, shape) => sum + 2 * size(shape), 0);
  const started = performance.now();
  const done = join(folder, 'complete');
  const stamp = JSON.stringify(config);
  if (existsSync(done) && readFileSync(done, 'utf8') === stamp)
    return { bytes, written: false, seconds: 0 };
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const map = {};
  shards.forEach((shapes, i) => {
    const name = `model-${pad(i + 1)}-of-${pad(shards.length)}.safetensors`;
    for (const tensor of Object.keys(shapes)) map[tensor] = name;
    writeShard(join(folder, name), shapes);
  });
  const index = { metadata: { total_size: bytes }, weight_map: map };
  writeFileSync(join(folder, 'model.safetensors.index.json'), JSON.stringify(index));
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config, null, 2));
  writeFileSync(done, stamp);
  return { bytes, written: true, seconds: (performance.now() - started) / 1000 };
}

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

function writeShard(path, shapes) {
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
  let offset = 0;
  for (const [name, shape] of Object.entries(shapes)) {
    const one = /norm\.weight$/.test(name);
    for (let left = size(shape); left > 0;) {
      const count = Math.min(PIECE, left);
      const words = one
        ? new Uint16Array(count).fill(0x3f80)
        : normalWords(count, 0.02, (offset += 1_000_003));
      writeAll(file, new Uint8Array(words.buffer));
      left -= count;
    }
  }
  closeSync(file);
}

/** One write may take less than it is given. */
function writeAll(file, bytes) {
  for (let at = 0; at < bytes.length;) at += writeSync(file, bytes, at, bytes.length - at);
}
