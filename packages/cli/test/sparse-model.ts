import {
  closeSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Keys of config.json that say how large a Llama is. */
export interface LlamaSizes {
  readonly hidden_size: number;
  readonly intermediate_size: number;
  readonly num_hidden_layers: number;
  readonly num_attention_heads: number;
  readonly num_key_value_heads: number;
  readonly vocab_size: number;
}

/** meta-llama/Llama-3.1-8B, config.json. */
export const LLAMA_8B: LlamaSizes = {
  hidden_size: 4096,
  intermediate_size: 14336,
  num_hidden_layers: 32,
  num_attention_heads: 32,
  num_key_value_heads: 8,
  vocab_size: 128256,
};
/** meta-llama/Llama-3.1-70B, config.json. */
export const LLAMA_70B: LlamaSizes = {
  ...LLAMA_8B,
  hidden_size: 8192,
  intermediate_size: 28672,
  num_hidden_layers: 80,
  num_attention_heads: 64,
};

/** A checkpoint whose weight files have headers and nothing behind them but a hole. */
export interface SparseModel extends Disposable {
  readonly path: string;
}

/** Writes one, in so many shards, without a tokenizer. */
export function writeSparseModel(sizes: LlamaSizes, shards: number): SparseModel {
  const path = mkdtempSync(join(tmpdir(), 'accel-sparse-'));
  const json = (name: string, value: unknown): void =>
    writeFileSync(join(path, name), JSON.stringify(value));
  json('config.json', {
    ...sizes,
    _name_or_path: 'sparse',
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    max_position_embeddings: 131072,
    rms_norm_eps: 1e-5,
    rope_theta: 500000,
    rope_scaling: {
      rope_type: 'llama3',
      factor: 8,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 8192,
    },
    eos_token_id: [128001, 128009],
    torch_dtype: 'bfloat16',
  });
  const tensors = tensorsOf(sizes);
  const per = Math.ceil(tensors.length / shards);
  const map: Record<string, string> = {};
  for (let shard = 0; shard < shards; shard++) {
    const own = tensors.slice(shard * per, (shard + 1) * per);
    const file = `model-${shard + 1}-of-${shards}.safetensors`;
    for (const [name] of own) map[name] = file;
    writeHole(join(path, file), own);
  }
  json('model.safetensors.index.json', { metadata: {}, weight_map: map });
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true }) };
}

type TensorShape = readonly [name: string, shape: readonly number[]];

function tensorsOf(sizes: LlamaSizes): TensorShape[] {
  const { hidden_size: hidden, intermediate_size: inner, vocab_size: vocab } = sizes;
  const kv = (hidden / sizes.num_attention_heads) * sizes.num_key_value_heads;
  const tensors: TensorShape[] = [
    ['model.embed_tokens.weight', [vocab, hidden]],
    ['model.norm.weight', [hidden]],
    ['lm_head.weight', [vocab, hidden]],
  ];
  for (let i = 0; i < sizes.num_hidden_layers; i++) {
    const at = `model.layers.${i}`;
    tensors.push(
      [`${at}.input_layernorm.weight`, [hidden]],
      [`${at}.self_attn.q_proj.weight`, [hidden, hidden]],
      [`${at}.self_attn.k_proj.weight`, [kv, hidden]],
      [`${at}.self_attn.v_proj.weight`, [kv, hidden]],
      [`${at}.self_attn.o_proj.weight`, [hidden, hidden]],
      [`${at}.post_attention_layernorm.weight`, [hidden]],
      [`${at}.mlp.gate_proj.weight`, [inner, hidden]],
      [`${at}.mlp.up_proj.weight`, [inner, hidden]],
      [`${at}.mlp.down_proj.weight`, [hidden, inner]],
    );
  }
  return tensors;
}

function writeHole(path: string, tensors: readonly TensorShape[]): void {
  let end = 0;
  const header = tensors.map(([name, shape]) => {
    const begin = end;
    end += 2 * shape.reduce((product, extent) => product * extent, 1);
    return [name, { dtype: 'BF16', shape, data_offsets: [begin, end] }] as const;
  });
  const json = Buffer.from(JSON.stringify(Object.fromEntries(header)));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  const file = openSync(path, 'w');
  writeSync(file, Buffer.concat([length, json]));
  ftruncateSync(file, 8 + json.length + end);
  closeSync(file);
}
