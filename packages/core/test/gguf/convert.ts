import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Device, type Tensor } from '@accel/kernels';
import { openWeights } from '../../src/weights/weights.js';
import { shared } from '../shared.js';
import type { GgufContents, GgufTensor, GgufValue } from './writer.js';

type Config = Readonly<Record<string, unknown>>;

/** A weight as float32 rows. */
interface Matrix {
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

/** How the tensors are written: floats, or bfloat16 matrices beside float32 norms. */
export type Storage = 'F32' | 'BF16';

/**
 * A golden checkpoint as llama.cpp's convert_hf_to_gguf.py would write it (names: gguf-py/gguf/tensor_mapping.py). Queries
 * and keys of Llama and Mistral have their rows permuted, as there.
 */
export async function convertGolden(name: string, storage: Storage): Promise<GgufContents> {
  const dir = join(shared, 'golden/models', name);
  const config = JSON.parse(readFileSync(join(dir, 'config.json'), 'utf8')) as Config;
  const architecture = String(config['model_type']);
  const arch = GGUF_ARCHITECTURES[architecture] ?? architecture;
  const tensors: GgufTensor[] = [];
  const weights = await readAll(dir);
  for (const [original, matrix] of weights) {
    const renamed = rename(original);
    if (renamed === undefined) continue;
    tensors.push(
      write(renamed, arch === 'llama' ? permute(renamed, matrix, config) : matrix, storage),
    );
  }
  const factors = llama3Factors(config);
  if (factors !== undefined) {
    tensors.push(write('rope_freqs.weight', { shape: [factors.length], values: factors }, 'F32'));
  }
  return { metadata: metadataOf(arch, name, config), tensors };
}

const GGUF_ARCHITECTURES: Readonly<Record<string, string>> = { mistral: 'llama', glm: 'chatglm' };

async function readAll(dir: string): Promise<[string, Matrix][]> {
  using weights = openWeights(dir);
  using stream = Device.open('cpu').createStream();
  const read = async (tensor: Tensor): Promise<Matrix> => {
    const values = (await tensor.read(stream)) as Float32Array;
    tensor.dispose();
    return { shape: tensor.shape, values };
  };
  const all: [string, Matrix][] = [];
  for (const name of weights.names) all.push([name, await read(weights.tensor(name))]);
  return all;
}

const outer: Readonly<Record<string, string>> = {
  'model.embed_tokens.weight': 'token_embd.weight',
  'model.norm.weight': 'output_norm.weight',
  'lm_head.weight': 'output.weight',
  'transformer.embedding.word_embeddings.weight': 'token_embd.weight',
  'transformer.encoder.final_layernorm.weight': 'output_norm.weight',
  'transformer.output_layer.weight': 'output.weight',
};

const inner: Readonly<Record<string, string>> = {
  input_layernorm: 'attn_norm',
  post_attention_layernorm: 'ffn_norm',
  'self_attn.q_proj': 'attn_q',
  'self_attn.k_proj': 'attn_k',
  'self_attn.v_proj': 'attn_v',
  'self_attn.o_proj': 'attn_output',
  'self_attn.q_norm': 'attn_q_norm',
  'self_attn.k_norm': 'attn_k_norm',
  'mlp.gate_proj': 'ffn_gate',
  'mlp.up_proj': 'ffn_up',
  'mlp.gate_up_proj': 'ffn_up',
  'mlp.down_proj': 'ffn_down',
  post_self_attn_layernorm: 'post_attention_norm',
  post_mlp_layernorm: 'post_ffw_norm',
  'self_attention.query_key_value': 'attn_qkv',
  'self_attention.dense': 'attn_output',
  'mlp.dense_h_to_4h': 'ffn_up',
  'mlp.dense_4h_to_h': 'ffn_down',
};

function rename(name: string): string | undefined {
  if (name.includes('inv_freq')) return undefined;
  if (outer[name] !== undefined) return outer[name];
  const [, layer = '', part = '', kind = ''] =
    /layers\.(\d+)\.(.*)\.(weight|bias)$/.exec(name) ?? [];
  const renamed = inner[part];
  if (renamed === undefined) throw new Error(`no GGUF name for ${name}`);
  return `blk.${layer}.${renamed}.${kind}`;
}

/** Rows c and c + d/2 of each head become neighbours (`LlamaModel.permute`). */
function permute(name: string, { shape, values }: Matrix, config: Config): Matrix {
  const [, which] = /attn_(q|k)\.(weight|bias)$/.exec(name) ?? [];
  if (which === undefined) return { shape, values };
  const heads = Number(
    which === 'q' ? config['num_attention_heads'] : config['num_key_value_heads'],
  );
  const [rows = 0, width = 1] = shape;
  const d = rows / heads;
  const out = new Float32Array(values.length);
  for (let row = 0; row < rows; row++) {
    const c = row % d;
    const to = row - c + (c < d / 2 ? 2 * c : 2 * (c - d / 2) + 1);
    out.set(values.subarray(row * width, (row + 1) * width), to * width);
  }
  return { shape, values: out };
}

function write(name: string, { shape, values }: Matrix, storage: Storage): GgufTensor {
  if (storage === 'F32' || shape.length === 1) {
    return {
      name,
      type: 0,
      shape,
      data: new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
    };
  }
  // The goldens are exact in bfloat16.
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const halves = Uint16Array.from(bits, (value) => value >>> 16);
  return { name, type: 30, shape, data: new Uint8Array(halves.buffer) };
}

/** Divisors of the frequencies (`LlamaModel.generate_extra_tensors`). */
function llama3Factors(config: Config): Float32Array | undefined {
  const scaling = config['rope_scaling'] as Record<string, unknown> | null | undefined;
  if (scaling?.['rope_type'] !== 'llama3') return undefined;
  const of = (key: string): number => Number(scaling[key]);
  const d = Number(config['hidden_size']) / Number(config['num_attention_heads']);
  return Float32Array.from({ length: d / 2 }, (_, c) => {
    const wave = 2 * Math.PI * Number(config['rope_theta']) ** ((2 * c) / d);
    const turns = of('original_max_position_embeddings') / wave;
    if (turns > of('high_freq_factor')) return 1;
    if (turns < of('low_freq_factor')) return of('factor');
    const kept = (turns - of('low_freq_factor')) / (of('high_freq_factor') - of('low_freq_factor'));
    return 1 / ((1 - kept) / of('factor') + kept);
  });
}

function metadataOf(arch: string, name: string, config: Config): Record<string, GgufValue> {
  const first = (...keys: string[]): number | undefined => {
    const value = keys.map((key) => config[key]).find((given) => typeof given === 'number');
    return value;
  };
  const heads = first('num_attention_heads') ?? 0;
  const headDim = first('head_dim', 'kv_channels') ?? (first('hidden_size') ?? 0) / heads;
  const partial = arch === 'chatglm' || arch === 'glm4';
  const u32s: Record<string, number | undefined> = {
    block_count: first('num_layers', 'num_hidden_layers'),
    context_length: first('max_position_embeddings', 'seq_length'),
    embedding_length: first('hidden_size'),
    feed_forward_length: first('ffn_hidden_size', 'intermediate_size'),
    'attention.head_count': heads,
    'attention.head_count_kv': first('multi_query_group_num', 'num_key_value_heads'),
    'attention.key_length': headDim,
    'attention.value_length': headDim,
    'rope.dimension_count': partial ? headDim / 2 : headDim,
    'attention.sliding_window': arch === 'llama' ? first('sliding_window') : undefined,
  };
  const theta = first('rope_theta') ?? 10_000 * (first('rope_ratio') ?? 1);
  const eps = first('rms_norm_eps', 'layernorm_epsilon') ?? 0;
  return {
    'general.architecture': { text: arch },
    'general.name': { text: name },
    ...Object.fromEntries(
      Object.entries(u32s)
        .filter(([, value]) => value !== undefined)
        .map(([key, value]) => [`${arch}.${key}`, { u32: value as number }]),
    ),
    [`${arch}.attention.layer_norm_rms_epsilon`]: { f32: eps },
    [`${arch}.rope.freq_base`]: { f32: theta },
    [`${arch}.vocab_size`]: { u32: first('padded_vocab_size', 'vocab_size') ?? 0 },
    ...ropeScaling(arch, config),
    'tokenizer.ggml.model': { text: 'none' },
  };
}

function ropeScaling(arch: string, config: Config): Record<string, GgufValue> {
  const scaling = config['rope_scaling'] as Record<string, unknown> | null | undefined;
  const type = scaling?.['rope_type'] ?? scaling?.['type'];
  if (type !== 'linear' && type !== 'yarn') return {};
  return {
    [`${arch}.rope.scaling.type`]: { text: type },
    [`${arch}.rope.scaling.factor`]: { f32: Number(scaling?.['factor']) },
    ...(type === 'yarn' && {
      [`${arch}.rope.scaling.original_context_length`]: {
        u32: Number(scaling?.['original_max_position_embeddings']),
      },
    }),
  };
}
