import type { HostTensor } from './safetensors.js';

/** A family of models, and how its checkpoints differ from Llama's. */
export type TinyFamily = 'llama' | 'mistral' | 'qwen2' | 'qwen3' | 'glm' | 'glm4' | 'chatglm';

/** All of them. */
export const tinyFamilies: readonly TinyFamily[] = [
  'llama',
  'mistral',
  'qwen2',
  'qwen3',
  'glm',
  'glm4',
  'chatglm',
];

/** A checkpoint before it is written: config.json and tensors by name. */
export interface Draft {
  readonly config: Record<string, unknown>;
  readonly tensors: Record<string, HostTensor>;
}

/** Makes more tensors, of values that depend on the seed and the order of the calls alone. */
export interface TensorMaker {
  /** Uniform with this deviation. */
  uniform(shape: readonly number[], deviation: number): HostTensor;
  /** A norm's weight: around 1, so that leaving it out shows. */
  norm(size: number): HostTensor;
}

/** Turns a Llama checkpoint into one of another family, with everything that makes the family different. */
export function asFamily(family: TinyFamily, llama: Draft, make: TensorMaker): Draft {
  switch (family) {
    case 'llama':
      return llama;
    case 'mistral':
      return renamed(llama, 'MistralForCausalLM', 'mistral', { sliding_window: null });
    case 'qwen2':
      return withBiases(renamed(llama, 'Qwen2ForCausalLM', 'qwen2'), make);
    case 'qwen3':
      return withHeadNorms(renamed(llama, 'Qwen3ForCausalLM', 'qwen3'), make);
    case 'glm':
      return withBiases(
        fusedGate(renamed(llama, 'GlmForCausalLM', 'glm', { attention_bias: true, ...HALF })),
        make,
      );
    case 'glm4':
      return withOutNorms(
        fusedGate(renamed(llama, 'Glm4ForCausalLM', 'glm4', { attention_bias: false, ...HALF })),
        make,
      );
    case 'chatglm':
      return chatglm(withBiases(fusedGate(llama), make));
  }
}

const HALF = { partial_rotary_factor: 0.5 };

function renamed(
  { config, tensors }: Draft,
  architecture: string,
  type: string,
  more: Record<string, unknown> = {},
): Draft {
  return {
    config: { ...config, architectures: [architecture], model_type: type, ...more },
    tensors: { ...tensors },
  };
}

function layersOf({ config }: Draft): string[] {
  return Array.from(
    { length: config['num_hidden_layers'] as number },
    (_, i) => `model.layers.${String(i)}`,
  );
}

function withBiases(draft: Draft, make: TensorMaker): Draft {
  const { tensors } = draft;
  for (const at of layersOf(draft)) {
    for (const part of ['q', 'k', 'v']) {
      const rows = tensors[`${at}.self_attn.${part}_proj.weight`]?.shape[0] ?? 0;
      tensors[`${at}.self_attn.${part}_proj.bias`] = make.uniform([rows], 0.3);
    }
  }
  return draft;
}

function withHeadNorms(draft: Draft, make: TensorMaker): Draft {
  const { config, tensors } = draft;
  for (const at of layersOf(draft)) {
    for (const part of ['q', 'k']) {
      tensors[`${at}.self_attn.${part}_norm.weight`] = make.norm(config['head_dim'] as number);
    }
  }
  return draft;
}

function withOutNorms(draft: Draft, make: TensorMaker): Draft {
  const { config, tensors } = draft;
  for (const at of layersOf(draft)) {
    for (const part of ['post_self_attn_layernorm', 'post_mlp_layernorm']) {
      tensors[`${at}.${part}.weight`] = make.norm(config['hidden_size'] as number);
    }
  }
  return draft;
}

/** One matrix for gate and up, the gate first. */
function fusedGate(draft: Draft): Draft {
  const { config } = draft;
  const tensors = { ...draft.tensors };
  for (const at of layersOf(draft)) {
    const fused = stack(tensors, [`${at}.mlp.gate_proj.weight`, `${at}.mlp.up_proj.weight`]);
    tensors[`${at}.mlp.gate_up_proj.weight`] = fused;
  }
  return { config, tensors };
}

/** Takes tensors out and puts their rows into one. */
function stack(tensors: Record<string, HostTensor>, names: readonly string[]): HostTensor {
  const parts = names.map((name) => {
    const part = tensors[name];
    if (part === undefined) throw new Error(`there is no ${name}`);
    Reflect.deleteProperty(tensors, name);
    return part;
  });
  const data = new Float32Array(parts.reduce((sum, part) => sum + part.data.length, 0));
  let at = 0;
  for (const part of parts) {
    data.set(part.data, at);
    at += part.data.length;
  }
  const rows = parts.reduce((sum, part) => sum + (part.shape[0] ?? 0), 0);
  return { dtype: 'F32', shape: [rows, ...(parts[0]?.shape.slice(1) ?? [])], data };
}

/** The layout of ChatGLM's own code. */
function chatglm(draft: Draft): Draft {
  const { config } = draft;
  const tensors = { ...draft.tensors };
  for (const at of layersOf(draft)) {
    for (const kind of ['weight', 'bias']) {
      const names = ['q', 'k', 'v'].map((part) => `${at}.self_attn.${part}_proj.${kind}`);
      tensors[`${at}.self_attention.query_key_value.${kind}`] = stack(tensors, names);
    }
  }
  const rename = (name: string): string =>
    name
      .replace('model.embed_tokens', 'transformer.embedding.word_embeddings')
      .replace('lm_head', 'transformer.output_layer')
      .replace('model.norm', 'transformer.encoder.final_layernorm')
      .replace('model.layers', 'transformer.encoder.layers')
      .replace('self_attn.o_proj', 'self_attention.dense')
      .replace('mlp.gate_up_proj', 'mlp.dense_h_to_4h')
      .replace('mlp.down_proj', 'mlp.dense_4h_to_h');
  return {
    config: {
      architectures: ['ChatGLMModel'],
      model_type: 'chatglm',
      num_layers: config['num_hidden_layers'],
      hidden_size: config['hidden_size'],
      ffn_hidden_size: config['intermediate_size'],
      num_attention_heads: config['num_attention_heads'],
      kv_channels: config['head_dim'],
      multi_query_attention: true,
      multi_query_group_num: config['num_key_value_heads'],
      padded_vocab_size: config['vocab_size'],
      seq_length: config['max_position_embeddings'],
      layernorm_epsilon: config['rms_norm_eps'],
      rope_ratio: (config['rope_theta'] as number) / 10_000,
      add_qkv_bias: true,
      add_bias_linear: false,
      rmsnorm: true,
      post_layer_norm: true,
      eos_token_id: config['eos_token_id'],
      torch_dtype: 'float32',
    },
    tensors: Object.fromEntries(
      Object.entries(tensors).map(([name, tensor]) => [rename(name), tensor]),
    ),
  };
}
