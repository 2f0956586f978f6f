import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { asFamily, type Draft, type TensorMaker, type TinyFamily } from './families.js';
import { generated } from './generator.js';
import { encodeSafetensors, type HostTensor } from './safetensors.js';

/** Sizes of a {@link TinyCheckpoint}. Every field has a default. */
export interface TinyCheckpointOptions {
  /** Default llama. */
  readonly family?: TinyFamily;
  /** Keys of config.json to set or, with null, to write as null; for example `sliding_window`. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** Default 2. */
  readonly layers?: number;
  /** Query heads. Default 4. */
  readonly heads?: number;
  /** Key/value heads. Default 2. */
  readonly kvHeads?: number;
  /** Default 16. */
  readonly headDim?: number;
  /** Default 32. */
  readonly hiddenSize?: number;
  /** Default 48. */
  readonly intermediateSize?: number;
  /** Positions the model claims. Default 4096. */
  readonly contextLength?: number;
  /** Default 10000. */
  readonly ropeTheta?: number;
  /** `rope_scaling` of config.json. Default none. */
  readonly ropeScaling?: Readonly<Record<string, unknown>>;
  /** Seed of the weights. Default 1. */
  readonly seed?: number;
}

/** A model directory in the Hugging Face layout in a folder for temporary files. */
export interface TinyCheckpoint extends Disposable {
  readonly path: string;
  readonly vocabSize: number;
  /** Deletes the folder. */
  dispose(): void;
}

const BOS = '<|begin_of_text|>';
const EOS = '<|end_of_text|>';

/**
 * Writes a random model, a Llama unless another family is asked for, with a byte-level tokenizer (256 bytes, a begin and an end token). Weights are float32 and
 * depend on `seed` alone. Attention is peaked enough that evicting rows changes the output.
 */
export function writeTinyCheckpoint(options: TinyCheckpointOptions = {}): TinyCheckpoint {
  const sizes = { ...DEFAULTS, ...options };
  const path = mkdtempSync(join(tmpdir(), 'accel-tiny-'));
  const save = (name: string, data: string | Uint8Array): void =>
    writeFileSync(join(path, name), data);
  const draft = asFamily(
    sizes.family ?? 'llama',
    { config: config(sizes), tensors: weights(sizes) },
    maker(sizes.seed * 1000 + 500),
  );
  save('config.json', JSON.stringify({ ...draft.config, ...options.config }, null, 2));
  save('tokenizer.json', JSON.stringify(byteTokenizer()));
  save(
    'tokenizer_config.json',
    JSON.stringify({ tokenizer_class: 'PreTrainedTokenizerFast', bos_token: BOS, eos_token: EOS }),
  );
  save('model.safetensors', encodeSafetensors(draft.tensors));
  const dispose = (): void => rmSync(path, { recursive: true, force: true });
  return { path, vocabSize: VOCAB, dispose, [Symbol.dispose]: dispose };
}

const VOCAB = 258;
const DEFAULTS = {
  layers: 2,
  heads: 4,
  kvHeads: 2,
  headDim: 16,
  hiddenSize: 32,
  intermediateSize: 48,
  contextLength: 4096,
  ropeTheta: 10000,
  seed: 1,
};
type Sizes = typeof DEFAULTS & Pick<TinyCheckpointOptions, 'ropeScaling' | 'family'>;

function config(sizes: Sizes): Record<string, unknown> {
  return {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    vocab_size: VOCAB,
    hidden_size: sizes.hiddenSize,
    intermediate_size: sizes.intermediateSize,
    num_hidden_layers: sizes.layers,
    num_attention_heads: sizes.heads,
    num_key_value_heads: sizes.kvHeads,
    head_dim: sizes.headDim,
    max_position_embeddings: sizes.contextLength,
    rope_theta: sizes.ropeTheta,
    ...(sizes.ropeScaling && { rope_scaling: sizes.ropeScaling }),
    rms_norm_eps: 1e-5,
    hidden_act: 'silu',
    tie_word_embeddings: false,
    bos_token_id: 256,
    eos_token_id: 257,
    torch_dtype: 'float32',
  };
}

function weights(sizes: Sizes): Draft['tensors'] {
  const { hiddenSize, intermediateSize } = sizes;
  const tensors: Record<string, HostTensor> = {};
  let seed = sizes.seed * 1000;
  const uniform = (name: string, shape: readonly number[], deviation: number): void => {
    const count = shape.reduce((product, size) => product * size, 1);
    // A uniform number in [-1, 1) has deviation 1/√3.
    tensors[name] = {
      dtype: 'F32',
      shape,
      data: generated(seed++, count, deviation * Math.sqrt(3)),
    };
  };
  const linear = (name: string, out: number, into: number, gain = 1): void => {
    uniform(name, [out, into], gain / Math.sqrt(into));
  };
  const norm = (name: string): void => {
    tensors[name] = {
      dtype: 'F32',
      shape: [hiddenSize],
      data: new Float32Array(hiddenSize).fill(1),
    };
  };
  uniform('model.embed_tokens.weight', [VOCAB, hiddenSize], 1);
  for (let i = 0; i < sizes.layers; i++) {
    const layer = `model.layers.${i}`;
    norm(`${layer}.input_layernorm.weight`);
    // Gain 1.6 each: logits with a deviation of about 2.5, so few keys get most of the attention.
    linear(`${layer}.self_attn.q_proj.weight`, sizes.heads * sizes.headDim, hiddenSize, 1.6);
    linear(`${layer}.self_attn.k_proj.weight`, sizes.kvHeads * sizes.headDim, hiddenSize, 1.6);
    linear(`${layer}.self_attn.v_proj.weight`, sizes.kvHeads * sizes.headDim, hiddenSize);
    linear(`${layer}.self_attn.o_proj.weight`, hiddenSize, sizes.heads * sizes.headDim);
    norm(`${layer}.post_attention_layernorm.weight`);
    linear(`${layer}.mlp.gate_proj.weight`, intermediateSize, hiddenSize);
    linear(`${layer}.mlp.up_proj.weight`, intermediateSize, hiddenSize);
    linear(`${layer}.mlp.down_proj.weight`, hiddenSize, intermediateSize);
  }
  norm('model.norm.weight');
  linear('lm_head.weight', VOCAB, hiddenSize, 2.5);
  return tensors;
}

/** What families have besides. */
function maker(first: number): TensorMaker {
  let seed = first;
  const uniform = (shape: readonly number[], deviation: number): HostTensor => {
    const count = shape.reduce((product, size) => product * size, 1);
    return { dtype: 'F32', shape, data: generated(seed++, count, deviation * Math.sqrt(3)) };
  };
  return {
    uniform,
    norm: (size) => {
      const { data, ...rest } = uniform([size], 0.2);
      return { ...rest, data: Float32Array.from(data as Float32Array, (x) => 1 + x) };
    },
  };
}

/** The printable stand-ins that byte-level BPE uses for the 256 bytes. */
function byteLetters(): string[] {
  const printable = (byte: number): boolean =>
    (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  let spare = 256;
  return Array.from({ length: 256 }, (_, byte) =>
    String.fromCodePoint(printable(byte) ? byte : spare++),
  );
}

function byteTokenizer(): Record<string, unknown> {
  const vocab = Object.fromEntries(byteLetters().map((letter, id) => [letter, id]));
  const special = (id: number, content: string): Record<string, unknown> => ({
    id,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  });
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [special(256, BOS), special(257, EOS)],
    normalizer: null,
    pre_tokenizer: {
      type: 'ByteLevel',
      add_prefix_space: false,
      trim_offsets: true,
      use_regex: true,
    },
    post_processor: {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: BOS, type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
      pair: [],
      special_tokens: { [BOS]: { id: BOS, ids: [256], tokens: [BOS] } },
    },
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      vocab: { ...vocab, [BOS]: 256, [EOS]: 257 },
      merges: [],
    },
  };
}
