import { type BlockFormat, blockFormats, Device, ops, Tensor, toFloat16 } from '@accel/kernels';
import { type Entry, safetensors } from '../weights/build.js';
import type { GgufTensor, GgufValue } from './writer.js';
import { ggufBytes } from './writer.js';

/** Small numbers from an LCG, the same in every run. */
class Noise {
  #state = 1;

  next(): number {
    this.#state = (Math.imul(this.#state, 1664525) + 1013904223) >>> 0;
    return this.#state / 2 ** 32;
  }

  byte(): number {
    return Math.floor(this.next() * 256);
  }
}

/** Halves of a block by their offset, so that its numbers are about ±0.1. */
const scales: Readonly<Record<BlockFormat, Readonly<Record<number, number>>>> = {
  Q4_0: { 0: 0.012 },
  Q4_1: { 0: 0.012, 2: -0.09 },
  Q5_0: { 0: 0.006 },
  Q5_1: { 0: 0.006, 2: -0.09 },
  Q8_0: { 0: 0.0008 },
  Q4_K: { 0: 0.0002, 2: 0.0015 },
  Q5_K: { 0: 0.0001, 2: 0.0015 },
  Q6_K: { 208: 0.00003 },
};

function randomBlocks(format: BlockFormat, elements: number, noise: Noise): Uint8Array {
  const { elements: inBlock, bytes } = blockFormats[format];
  const blocks = Uint8Array.from({ length: (elements / inBlock) * bytes }, () => noise.byte());
  for (const [offset, scale] of Object.entries(scales[format])) {
    const [bits = 0] = toFloat16(Float32Array.of(scale));
    for (let at = Number(offset); at < blocks.length; at += bytes) {
      blocks[at] = bits & 255;
      blocks[at + 1] = bits >> 8;
    }
  }
  return blocks;
}

const HIDDEN = 256;
const FFN = 512;
const VOCAB = 96;
const LAYERS = 2;
const HEADS = 4;
const KV_HEADS = 2;
const HEAD_DIM = 64;

const config = {
  architectures: ['Qwen3ForCausalLM'],
  model_type: 'qwen3',
  hidden_size: HIDDEN,
  intermediate_size: FFN,
  num_hidden_layers: LAYERS,
  num_attention_heads: HEADS,
  num_key_value_heads: KV_HEADS,
  head_dim: HEAD_DIM,
  vocab_size: VOCAB,
  max_position_embeddings: 512,
  // Exact in float32, in which GGUF holds it.
  rms_norm_eps: 2 ** -20,
  rope_theta: 10_000,
  tie_word_embeddings: false,
  torch_dtype: 'float32',
};

const metadata: Record<string, GgufValue> = {
  'general.architecture': { text: 'qwen3' },
  'qwen3.block_count': { u32: LAYERS },
  'qwen3.context_length': { u32: 512 },
  'qwen3.embedding_length': { u32: HIDDEN },
  'qwen3.feed_forward_length': { u32: FFN },
  'qwen3.attention.head_count': { u32: HEADS },
  'qwen3.attention.head_count_kv': { u32: KV_HEADS },
  'qwen3.attention.key_length': { u32: HEAD_DIM },
  'qwen3.attention.value_length': { u32: HEAD_DIM },
  'qwen3.attention.layer_norm_rms_epsilon': { f32: 2 ** -20 },
  'qwen3.rope.freq_base': { f32: 10_000 },
};

/** Names in GGUF and in transformers' layout, with shapes. */
function weights(): [gguf: string, original: string, shape: number[]][] {
  const all: [string, string, number[]][] = [
    ['token_embd.weight', 'model.embed_tokens.weight', [VOCAB, HIDDEN]],
    ['output_norm.weight', 'model.norm.weight', [HIDDEN]],
    ['output.weight', 'lm_head.weight', [VOCAB, HIDDEN]],
  ];
  for (let layer = 0; layer < LAYERS; layer++) {
    const [to, from] = [`blk.${layer}`, `model.layers.${layer}`];
    const q = HEADS * HEAD_DIM;
    const kv = KV_HEADS * HEAD_DIM;
    all.push(
      [`${to}.attn_norm.weight`, `${from}.input_layernorm.weight`, [HIDDEN]],
      [`${to}.attn_q.weight`, `${from}.self_attn.q_proj.weight`, [q, HIDDEN]],
      [`${to}.attn_k.weight`, `${from}.self_attn.k_proj.weight`, [kv, HIDDEN]],
      [`${to}.attn_v.weight`, `${from}.self_attn.v_proj.weight`, [kv, HIDDEN]],
      [`${to}.attn_output.weight`, `${from}.self_attn.o_proj.weight`, [HIDDEN, q]],
      [`${to}.attn_q_norm.weight`, `${from}.self_attn.q_norm.weight`, [HEAD_DIM]],
      [`${to}.attn_k_norm.weight`, `${from}.self_attn.k_norm.weight`, [HEAD_DIM]],
      [`${to}.ffn_norm.weight`, `${from}.post_attention_layernorm.weight`, [HIDDEN]],
      [`${to}.ffn_gate.weight`, `${from}.mlp.gate_proj.weight`, [FFN, HIDDEN]],
      [`${to}.ffn_up.weight`, `${from}.mlp.up_proj.weight`, [FFN, HIDDEN]],
      [`${to}.ffn_down.weight`, `${from}.mlp.down_proj.weight`, [HIDDEN, FFN]],
    );
  }
  return all;
}

/** A model with random weights twice: quantised in a GGUF file, and unpacked in a model folder. */
export interface Twins {
  readonly gguf: Uint8Array;
  /** Files of the folder. */
  readonly folder: Readonly<Record<string, Uint8Array | string>>;
}

/** Matrices take the formats in turn; norms are float32. */
export async function quantisedTwins(formats: readonly BlockFormat[]): Promise<Twins> {
  const noise = new Noise();
  using stream = Device.open('cpu').createStream();
  const tensors: GgufTensor[] = [];
  const header: Record<string, Entry> = {};
  const data: Uint8Array[] = [];
  let at = 0;
  for (const [i, [name, original, shape]] of weights().entries()) {
    const size = shape.reduce((product, extent) => product * extent, 1);
    const format = shape.length === 2 ? formats[i % formats.length] : undefined;
    let values: Float32Array = Float32Array.from({ length: size }, () => 0.8 + 0.4 * noise.next());
    let stored: Uint8Array = new Uint8Array(values.buffer);
    if (format !== undefined) {
      stored = randomBlocks(format, size, noise);
      values = await unpack(stream, stored, shape, format);
    }
    const type = format === undefined ? 0 : blockFormats[format].id;
    tensors.push({ name, type, shape, data: stored });
    header[original] = { dtype: 'F32', shape, data_offsets: [at, at + values.byteLength] };
    data.push(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    at += values.byteLength;
  }
  return {
    gguf: ggufBytes({ metadata, tensors }),
    folder: {
      'config.json': JSON.stringify(config),
      'model.safetensors': safetensors(header, Buffer.concat(data)),
    },
  };
}

/** The op's float32 numbers are compared with ggml's in the tests of @accel/kernels. */
async function unpack(
  stream: ReturnType<Device['createStream']>,
  blocks: Uint8Array,
  shape: readonly number[],
  format: BlockFormat,
): Promise<Float32Array> {
  const [rows = 0] = shape;
  using x = Tensor.from(stream.device, blocks, [rows, blocks.length / rows]);
  using out = Tensor.empty(stream.device, 'float32', shape);
  ops.dequantize(stream, out, x, format);
  return (await out.read(stream)) as Float32Array;
}
