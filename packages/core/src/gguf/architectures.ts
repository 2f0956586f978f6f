import { AccelError } from '@accel/kernels';
import type { Architecture, FloatDType, ModelSpec } from '../config/spec.js';
import type { Blueprint } from '../models/family.js';
import type { TensorInfo } from '../weights/header.js';
import { ArchitectureKeys } from './keys.js';
import { ggufLayout, type LayerTraits, outerNames } from './layout.js';
import type { Metadata } from './metadata.js';
import { readGgufRope } from './rope.js';

/** What llama.cpp knows of an architecture without being told by the file. */
export interface GgufArchitecture extends LayerTraits {
  /** `general.architecture`, with which the keys begin. */
  readonly id: string;
  readonly architecture: Architecture;
  /** Rotated pairs are neighbours. For Llama this is so because converters permute the rows of q and k. */
  readonly interleaved: boolean;
}

/** By `general.architecture`. Mistral models are converted as `llama`, GLM-4 (9B, 2024) as `chatglm`. */
const architectures: readonly GgufArchitecture[] = [
  { id: 'llama', architecture: 'llama', interleaved: true },
  { id: 'qwen2', architecture: 'qwen2', interleaved: false },
  { id: 'qwen3', architecture: 'qwen3', interleaved: false, headNorms: true },
  { id: 'chatglm', architecture: 'chatglm', interleaved: true, fusedMlp: true },
  { id: 'glm4', architecture: 'glm4', interleaved: true, fusedMlp: true, outNorms: true },
];

/** Numbers that change the forward pass in a way that it does not have, unless they are 0. */
const UNSUPPORTED = [
  'expert_count',
  'nextn_predict_layers',
  'attention.max_alibi_bias',
  'attention.clamp_kqv',
  'attention.q_lora_rank',
  'attention.kv_lora_rank',
  'attention.temperature_scale',
  'attn_logit_softcapping',
  'final_logit_softcapping',
  'logit_scale',
  'residual_scale',
  'embedding_scale',
];

/** Characters of a model's name, which reports and messages repeat. */
const MAX_NAME = 200;

/** What a file says beside its metadata. */
export interface GgufContents {
  readonly metadata: Metadata;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** A name for the model where the file gives none. */
  readonly fallbackName: string;
  /** The values of `rope_freqs.weight`, if it is there. */
  readonly ropeFactors: readonly number[] | undefined;
  readonly bosTokenId: number | undefined;
  readonly eosTokenIds: readonly number[];
}

/** @throws AccelError `ERR_ACCEL_ARCHITECTURE` that lists what is supported */
export function findArchitecture(file: string, metadata: Metadata): GgufArchitecture {
  const id = metadata.text('general.architecture') ?? '(none)';
  const known = architectures.find((architecture) => architecture.id === id);
  if (known !== undefined) return known;
  throw new AccelError(
    'ERR_ACCEL_ARCHITECTURE',
    `${file} has the architecture ${id.slice(0, 40)}, which is not supported. Supported in GGUF files: ${architectures.map((architecture) => architecture.id).join(', ')} (llama includes Mistral).`,
  );
}

/**
 * What a GGUF file says about its model.
 * @throws AccelError `ERR_ACCEL_CONFIG` (names the key), `ERR_ACCEL_WEIGHTS` (no embedding)
 */
export function readBlueprint(
  file: string,
  architecture: GgufArchitecture,
  contents: GgufContents,
): Blueprint {
  const { metadata, tensors } = contents;
  const keys = new ArchitectureKeys(metadata, architecture.id);
  refuseUnsupported(keys);
  const spec = readSpec(file, keys, architecture, contents);
  return { spec, layout: ggufLayout(spec, architecture, (name) => tensors.has(name)) };
}

function readSpec(
  file: string,
  keys: ArchitectureKeys,
  { architecture, interleaved }: GgufArchitecture,
  { metadata, tensors, ...contents }: GgufContents,
): ModelSpec {
  const hiddenSize = keys.neededSize('embedding_length');
  const heads = keys.neededSize('attention.head_count');
  const kvHeads = keys.size('attention.head_count_kv') ?? heads;
  if (heads % kvHeads !== 0) {
    throw keys.error(
      'attention.head_count_kv',
      `(${kvHeads}) must divide attention.head_count (${heads}).`,
    );
  }
  const headDim = keys.size('attention.key_length') ?? hiddenSize / heads;
  assertEven(keys, 'attention.key_length', headDim);
  const valueDim = keys.size('attention.value_length') ?? headDim;
  if (valueDim !== headDim) {
    throw keys.error('attention.value_length', `is ${valueDim}, but keys have ${headDim}.`);
  }
  const rotaryDim = keys.size('rope.dimension_count') ?? headDim;
  assertEven(keys, 'rope.dimension_count', rotaryDim);
  if (rotaryDim > headDim) {
    throw keys.error('rope.dimension_count', `is ${rotaryDim}, more than a head's ${headDim}.`);
  }
  const { ropeFactors } = contents;
  if (ropeFactors !== undefined && ropeFactors.length !== rotaryDim / 2) {
    throw keys.error(
      'rope.dimension_count',
      `is ${rotaryDim}, but rope_freqs.weight has ${ropeFactors.length} values instead of half as many.`,
    );
  }
  const rope = readGgufRope(keys, keys.neededSize('context_length'), ropeFactors);
  const normEps = keys.positive('attention.layer_norm_rms_epsilon');
  if (normEps === undefined) throw keys.error('attention.layer_norm_rms_epsilon', 'is missing.');
  const scale = keys.number('attention.scale') ?? 0;
  return {
    architecture,
    name: metadata.text('general.name')?.slice(0, MAX_NAME) ?? contents.fallbackName,
    layers: keys.neededSize('block_count', 4096),
    heads,
    kvHeads,
    headDim,
    hiddenSize,
    intermediateSize: keys.neededSize('feed_forward_length'),
    vocabSize: vocabularySize(file, tensors),
    contextLength: rope.contextLength,
    ...(contents.bosTokenId !== undefined && { bosTokenId: contents.bosTokenId }),
    eosTokenIds: contents.eosTokenIds,
    ropeTheta: rope.theta,
    rope: rope.scaling,
    rotaryDim,
    ropeInterleaved: interleaved,
    normEps,
    attentionScale: scale === 0 ? 1 / Math.sqrt(headDim) : scale,
    ...readWindow(keys),
    tiedEmbeddings: !tensors.has(outerNames.lmHead),
    dtype: computeFormat([...tensors.values()]),
  };
}

function refuseUnsupported(keys: ArchitectureKeys): void {
  for (const name of UNSUPPORTED) {
    const value = keys.number(name) ?? 0;
    const neutral = name.endsWith('_scale') && value === 1;
    if (value === 0 || neutral) continue;
    throw keys.error(name, `is ${value}; models with it are not supported.`);
  }
  if (keys.metadata.boolean(keys.key('attention.causal')) === false) {
    throw keys.error('attention.causal', 'is false; only decoders are supported.');
  }
  // Four sections of the rotated dimensions, as vision models have.
  const sections = keys.metadata.numbers(keys.key('rope.dimension_sections')) ?? [];
  if (sections.some((value) => value !== 0)) {
    throw keys.error('rope.dimension_sections', 'is given; only text models are supported.');
  }
}

/** All layers slide or none; a pattern would let some of them see everything. */
function readWindow(keys: ArchitectureKeys): Pick<ModelSpec, 'slidingWindow'> {
  if ((keys.number('attention.sliding_window') ?? 0) === 0) return {};
  if (keys.metadata.has(keys.key('attention.sliding_window_pattern'))) {
    throw keys.error(
      'attention.sliding_window_pattern',
      'is given; only models whose layers all slide are supported.',
    );
  }
  return { slidingWindow: { tokens: keys.neededSize('attention.sliding_window'), fromLayer: 0 } };
}

function vocabularySize(file: string, tensors: ReadonlyMap<string, TensorInfo>): number {
  const rows = tensors.get(outerNames.embed)?.shape;
  if (rows?.length === 2) return rows[0] as number;
  throw new AccelError(
    'ERR_ACCEL_WEIGHTS',
    `${file} has no matrix ${outerNames.embed}, so it holds no model that can be run. Files with a vocabulary or an adapter alone cannot be loaded.`,
  );
}

/**
 * What to compute in unless the caller says: the format that most bytes of the matrices are stored in, or bfloat16 when
 * any are quantised (docs/adr/0018-gguf.md).
 */
function computeFormat(tensors: readonly TensorInfo[]): FloatDType {
  const matrices = tensors.filter(({ shape }) => shape.length === 2);
  if (matrices.some(({ packed }) => packed !== undefined)) return 'bfloat16';
  const bytes = { float32: 0, bfloat16: 0, float16: 0 };
  for (const { dtype, byteLength } of matrices) {
    if (dtype === 'float32' || dtype === 'bfloat16' || dtype === 'float16') {
      bytes[dtype] += byteLength;
    }
  }
  const order = ['bfloat16', 'float16', 'float32'] as const;
  return order.reduce((best, format) => (bytes[format] > bytes[best] ? format : best));
}

function assertEven(keys: ArchitectureKeys, name: string, value: number): void {
  if (Number.isInteger(value) && value % 2 === 0) return;
  throw keys.error(name, `is ${value}; rotation needs an even whole number of dimensions.`);
}
