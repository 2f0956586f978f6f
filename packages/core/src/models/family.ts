import { AccelError, type Tensor } from '@accel/kernels';
import type { RawConfig } from '../config/hf-config.js';
import type { Architecture, ModelSpec } from '../config/spec.js';
import type { Weights } from '../weights/weights.js';

/** The weights of a decoder layer; those with a `?` exist in some families only. Matrices are `[out, in]`. */
export interface LayerMap<T> {
  /** RMSNorm before attention, `[hidden]`. */
  readonly inputNorm: T;
  /** `[heads · headDim, hidden]` */
  readonly q: T;
  /** `[kvHeads · headDim, hidden]` */
  readonly k: T;
  /** `[kvHeads · headDim, hidden]` */
  readonly v: T;
  /** `[hidden, heads · headDim]` */
  readonly o: T;
  readonly qBias?: T;
  readonly kBias?: T;
  readonly vBias?: T;
  /** RMSNorm before the MLP, `[hidden]`. */
  readonly postNorm: T;
  /** `[intermediate, hidden]` */
  readonly gate: T;
  /** `[intermediate, hidden]` */
  readonly up: T;
  /** `[hidden, intermediate]` */
  readonly down: T;
}

/** Names of a layer's weights in the checkpoint. */
export type LayerNames = LayerMap<string>;
/** A layer's weights. */
export type LayerWeights = LayerMap<Tensor>;

/** All weights of a model. With tied embeddings `lmHead` is the very tensor `embed`. */
export interface ModelWeights {
  /** `[vocab, hidden]` */
  readonly embed: Tensor;
  /** Final RMSNorm, `[hidden]`. */
  readonly norm: Tensor;
  /** `[vocab, hidden]` */
  readonly lmHead: Tensor;
  readonly layers: readonly LayerWeights[];
}

/**
 * One family of models: how its config is read and what its weights are called. The forward pass is written once,
 * for all of them; a new family is one more small file in this folder and an entry in families.ts.
 */
export interface Family {
  readonly id: Architecture;
  /** Values of `architectures` in config.json. */
  readonly architectures: readonly string[];
  parse(config: RawConfig, name: string): ModelSpec;
  readonly embed: string;
  readonly norm: string;
  /** Absent from the file when embeddings are tied. */
  readonly lmHead: string;
  names(layer: number): LayerNames;
  /** Tensors that some checkpoints carry and the forward pass rightly does not use. */
  readonly unused: RegExp;
}

/**
 * Looks up every weight of a model, checks shape and format, and returns views of the mapped files.
 *
 * A tensor inside the layers that the family does not use is an error: a checkpoint with, say, biases that are not
 * added would give wrong text without any other sign.
 *
 * @throws AccelError `ERR_ACCEL_WEIGHTS` naming the file and the tensor
 */
export function bindWeights(weights: Weights, spec: ModelSpec, family: Family): ModelWeights {
  const { hiddenSize, intermediateSize, vocabSize, headDim } = spec;
  const q = spec.heads * headDim;
  const kv = spec.kvHeads * headDim;
  const shapes: LayerMap<readonly number[]> = {
    inputNorm: [hiddenSize],
    q: [q, hiddenSize],
    k: [kv, hiddenSize],
    v: [kv, hiddenSize],
    o: [hiddenSize, q],
    qBias: [q],
    kBias: [kv],
    vBias: [kv],
    postNorm: [hiddenSize],
    gate: [intermediateSize, hiddenSize],
    up: [intermediateSize, hiddenSize],
    down: [hiddenSize, intermediateSize],
  };
  const wanted: [string, readonly number[]][] = [
    [family.embed, [vocabSize, hiddenSize]],
    [family.norm, [hiddenSize]],
  ];
  if (!spec.tiedEmbeddings) wanted.push([family.lmHead, [vocabSize, hiddenSize]]);
  const layerNames = Array.from({ length: spec.layers }, (_, layer) => family.names(layer));
  for (const names of layerNames) {
    for (const [key, name] of Object.entries(names) as [keyof LayerNames, string][]) {
      wanted.push([name, shapes[key] ?? []]);
    }
  }
  // All checks come before the first tensor is made, so nothing is left behind if one fails.
  for (const [name, shape] of wanted) check(weights, name, shape, spec);
  refuseUnused(weights, new Set(wanted.map(([name]) => name)), family);

  const embed = weights.tensor(family.embed);
  return {
    embed,
    norm: weights.tensor(family.norm),
    lmHead: spec.tiedEmbeddings ? embed : weights.tensor(family.lmHead),
    layers: layerNames.map(
      (names) =>
        Object.fromEntries(
          Object.entries(names).map(([key, name]) => [key, weights.tensor(name as string)]),
        ) as unknown as LayerWeights,
    ),
  };
}

const FLOATS = ['float32', 'bfloat16', 'float16'];

function check(weights: Weights, name: string, shape: readonly number[], spec: ModelSpec): void {
  if (!weights.has(name)) {
    const hint =
      name === 'lm_head.weight'
        ? ' If the output projection is the embedding matrix, config.json must say "tie_word_embeddings": true.'
        : ' The download may be incomplete, or config.json belongs to another checkpoint.';
    throw new AccelError(
      'ERR_ACCEL_WEIGHTS',
      `${weights.path}: the tensor ${name} is missing, which ${spec.name} needs.${hint}`,
    );
  }
  const info = weights.info(name);
  if (info.shape.length !== shape.length || info.shape.some((extent, i) => extent !== shape[i])) {
    throw new AccelError(
      'ERR_ACCEL_WEIGHTS',
      `${info.file}: ${name} has shape [${info.shape.join(', ')}], but config.json calls for [${shape.join(', ')}]. ` +
        'Take config.json and weights from the same checkpoint.',
    );
  }
  if (info.dtype === undefined || !FLOATS.includes(info.dtype)) {
    throw new AccelError(
      'ERR_ACCEL_WEIGHTS',
      `${info.file}: ${name} is stored as ${info.storedAs}; weights must be F32, BF16 or F16. Convert the checkpoint, or take an unquantised one.`,
    );
  }
}

function refuseUnused(weights: Weights, used: ReadonlySet<string>, family: Family): void {
  const inside = family.norm.slice(0, family.norm.indexOf('.') + 1);
  const extra = weights.names.filter(
    (name) => name.startsWith(inside) && !used.has(name) && !family.unused.test(name),
  );
  if (extra.length === 0) return;
  const shown = extra.slice(0, 4).join(', ');
  throw new AccelError(
    'ERR_ACCEL_WEIGHTS',
    `${weights.path} holds ${extra.length} tensors that the ${family.id} forward pass does not use (${shown}${extra.length > 4 ? ', …' : ''}); ` +
      'leaving them out would change the results. Check num_hidden_layers in config.json and that the architecture is right.',
  );
}
