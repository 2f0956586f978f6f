// Writes a Hugging Face Llama checkpoint as GGUF v3, so that llama.cpp can be measured on the very same weights.
//
// Layout (GGUF specification, ggml-org/ggml docs/gguf.md): magic, version, tensor count, key count, keys, tensor
// descriptions, padding to 32 bytes, tensor data. llama.cpp rotates interleaved pairs, so the rows of q and k are
// reordered from the half-split layout of the checkpoint, as its own converter does.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const TYPE = { u32: 4, i32: 5, f32: 6, string: 8, array: 9 };
const GGML = { F32: 0, F16: 1, BF16: 30 };
const ALIGNMENT = 32;

/**
 * @param {string} modelDir folder with config.json, model.safetensors and tokenizer.json
 * @param {string} target file to write
 * @param {'F32' | 'F16' | 'BF16'} dtype type of the matrices; norms are always F32
 */
export function writeGguf(modelDir, target, dtype) {
  const config = JSON.parse(readFileSync(join(modelDir, 'config.json'), 'utf8'));
  const weights = readSafetensors(join(modelDir, 'model.safetensors'));
  const tensors = mapTensors(config, weights, dtype);
  const keys = [...modelKeys(config), ...tokenizerKeys(modelDir, config)];
  const head = [
    Buffer.from('GGUF'),
    u32(3),
    u64(tensors.length),
    u64(keys.length),
    ...keys.map(([name, type, value]) =>
      Buffer.concat([string(name), u32(type), encode(type, value)]),
    ),
  ];
  let offset = 0;
  for (const tensor of tensors) {
    head.push(
      string(tensor.name),
      u32(tensor.shape.length),
      ...[...tensor.shape].reverse().map(u64),
      u32(tensor.type),
      u64(offset),
    );
    offset += align(tensor.data.length);
  }
  const header = Buffer.concat(head);
  const body = tensors.map((tensor) => pad(tensor.data));
  writeFileSync(target, Buffer.concat([pad(header), ...body]));
}

function modelKeys(config) {
  const headDim = config.head_dim ?? config.hidden_size / config.num_attention_heads;
  return [
    ['general.architecture', TYPE.string, 'llama'],
    ['general.name', TYPE.string, 'bench'],
    ['llama.vocab_size', TYPE.u32, config.vocab_size],
    ['llama.context_length', TYPE.u32, config.max_position_embeddings],
    ['llama.embedding_length', TYPE.u32, config.hidden_size],
    ['llama.block_count', TYPE.u32, config.num_hidden_layers],
    ['llama.feed_forward_length', TYPE.u32, config.intermediate_size],
    ['llama.attention.head_count', TYPE.u32, config.num_attention_heads],
    ['llama.attention.head_count_kv', TYPE.u32, config.num_key_value_heads],
    ['llama.attention.key_length', TYPE.u32, headDim],
    ['llama.attention.value_length', TYPE.u32, headDim],
    ['llama.attention.layer_norm_rms_epsilon', TYPE.f32, config.rms_norm_eps],
    ['llama.rope.freq_base', TYPE.f32, config.rope_theta],
    ['llama.rope.dimension_count', TYPE.u32, headDim],
  ];
}

function tokenizerKeys(modelDir, config) {
  const { model, added_tokens: added = [] } = JSON.parse(
    readFileSync(join(modelDir, 'tokenizer.json'), 'utf8'),
  );
  const tokens = Array.from({ length: config.vocab_size }, (_, i) => `[unused${i}]`);
  const kinds = new Array(config.vocab_size).fill(1);
  for (const [token, id] of Object.entries(model.vocab)) tokens[id] = token;
  for (const { id, content } of added) {
    tokens[id] = content;
    kinds[id] = 3; // control token
  }
  const merges = model.merges.map((merge) => (Array.isArray(merge) ? merge.join(' ') : merge));
  return [
    ['tokenizer.ggml.model', TYPE.string, 'gpt2'],
    ['tokenizer.ggml.pre', TYPE.string, 'default'],
    ['tokenizer.ggml.tokens', TYPE.array, [TYPE.string, tokens]],
    ['tokenizer.ggml.token_type', TYPE.array, [TYPE.i32, kinds]],
    ['tokenizer.ggml.merges', TYPE.array, [TYPE.string, merges]],
    ['tokenizer.ggml.bos_token_id', TYPE.u32, config.bos_token_id],
    ['tokenizer.ggml.eos_token_id', TYPE.u32, config.eos_token_id],
  ];
}

function mapTensors(config, weights, dtype) {
  const matrix = (name, from, heads) => {
    const { shape, values } = weights(from);
    const rows = heads === undefined ? values : interleaveHeads(values, shape, heads);
    return { name, shape, type: GGML[dtype], data: narrow(rows, dtype) };
  };
  const vector = (name, from) => {
    const { shape, values } = weights(from);
    return { name, shape, type: GGML.F32, data: narrow(values, 'F32') };
  };
  const tensors = [
    matrix('token_embd.weight', 'model.embed_tokens.weight'),
    vector('output_norm.weight', 'model.norm.weight'),
  ];
  if (!config.tie_word_embeddings) tensors.push(matrix('output.weight', 'lm_head.weight'));
  for (let i = 0; i < config.num_hidden_layers; i++) {
    const from = `model.layers.${i}`;
    const to = `blk.${i}`;
    tensors.push(
      vector(`${to}.attn_norm.weight`, `${from}.input_layernorm.weight`),
      matrix(`${to}.attn_q.weight`, `${from}.self_attn.q_proj.weight`, config.num_attention_heads),
      matrix(`${to}.attn_k.weight`, `${from}.self_attn.k_proj.weight`, config.num_key_value_heads),
      matrix(`${to}.attn_v.weight`, `${from}.self_attn.v_proj.weight`),
      matrix(`${to}.attn_output.weight`, `${from}.self_attn.o_proj.weight`),
      vector(`${to}.ffn_norm.weight`, `${from}.post_attention_layernorm.weight`),
      matrix(`${to}.ffn_gate.weight`, `${from}.mlp.gate_proj.weight`),
      matrix(`${to}.ffn_up.weight`, `${from}.mlp.up_proj.weight`),
      matrix(`${to}.ffn_down.weight`, `${from}.mlp.down_proj.weight`),
    );
  }
  return tensors;
}

/** Row c of a head's first half and row c of its second half become rows 2c and 2c+1. */
function interleaveHeads(values, [rows, columns], heads) {
  const out = new Float32Array(values.length);
  const dim = rows / heads;
  for (let head = 0; head < heads; head++) {
    for (let c = 0; c < dim; c++) {
      const source = head * dim + (c % 2) * (dim / 2) + Math.floor(c / 2);
      out.set(
        values.subarray(source * columns, (source + 1) * columns),
        (head * dim + c) * columns,
      );
    }
  }
  return out;
}

function readSafetensors(file) {
  const bytes = readFileSync(file);
  const length = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString('utf8', 8, 8 + length));
  return (name) => {
    const {
      dtype,
      shape,
      data_offsets: [begin, end],
    } = header[name];
    if (dtype !== 'BF16')
      throw new Error(`${name} is ${dtype}; the bench converts BF16 checkpoints`);
    const words = new Uint32Array((end - begin) / 2);
    for (let i = 0; i < words.length; i++)
      words[i] = bytes.readUInt16LE(8 + length + begin + 2 * i) << 16;
    return { shape, values: new Float32Array(words.buffer) };
  };
}

function narrow(values, dtype) {
  if (dtype === 'F32') return Buffer.from(values.buffer, values.byteOffset, values.byteLength);
  const out = Buffer.alloc(values.length * 2);
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < values.length; i++)
    out.writeUInt16LE(dtype === 'BF16' ? words[i] >>> 16 : half(values[i]), 2 * i);
  return out;
}

const single = new Float32Array(1);
const bits = new Uint32Array(single.buffer);

/** Nearest IEEE half, ties to even. */
function half(value) {
  single[0] = value;
  const sign = (bits[0] >>> 16) & 0x8000;
  const magnitude = Math.abs(value);
  if (magnitude < 2 ** -14) return sign | roundEven(magnitude * 2 ** 24);
  const exponent = Math.floor(Math.log2(magnitude));
  const mantissa = roundEven((magnitude / 2 ** exponent - 1) * 1024);
  return sign | (((exponent + 15) << 10) + mantissa);
}

function roundEven(x) {
  const down = Math.floor(x);
  const rest = x - down;
  return rest > 0.5 || (rest === 0.5 && down % 2 === 1) ? down + 1 : down;
}

function encode(type, value) {
  if (type === TYPE.u32) return u32(value);
  if (type === TYPE.i32) return u32(value);
  if (type === TYPE.string) return string(value);
  if (type === TYPE.f32) {
    const out = Buffer.alloc(4);
    out.writeFloatLE(value);
    return out;
  }
  const [itemType, items] = value;
  return Buffer.concat([
    u32(itemType),
    u64(items.length),
    ...items.map((item) => encode(itemType, item)),
  ]);
}

function string(text) {
  const bytes = Buffer.from(text, 'utf8');
  return Buffer.concat([u64(bytes.length), bytes]);
}

function u32(value) {
  const out = Buffer.alloc(4);
  out.writeUInt32LE(value);
  return out;
}

function u64(value) {
  const out = Buffer.alloc(8);
  out.writeBigUInt64LE(BigInt(value));
  return out;
}

function align(size) {
  return Math.ceil(size / ALIGNMENT) * ALIGNMENT;
}

function pad(data) {
  return Buffer.concat([data, Buffer.alloc(align(data.length) - data.length)]);
}
