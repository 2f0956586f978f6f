import { AccelError, type Tensor } from '@accel/kernels';
import type { ModelSpec } from '../config/spec.js';
import type { StoredWeight, WeightSource } from '../weights/source.js';
import type { Blueprint, FusedRows, LayerMap, LayerNames, Layout } from './family.js';

/** All weights of a model. With tied embeddings `lmHead` is the very thing that `embed` is. */
export interface WeightMap<T> {
  /** `[vocab, hidden]` */
  readonly embed: T;
  /** Final RMSNorm, `[hidden]`. */
  readonly norm: T;
  /** `[vocab, hidden]` */
  readonly lmHead: T;
  readonly layers: readonly LayerMap<T>[];
}

/** A layer's weights on a device. */
export type LayerWeights = LayerMap<Tensor>;
/** A model's weights on a device. */
export type ModelWeights = WeightMap<Tensor>;
/** A model's weights as the checkpoint holds them. */
export type StoredWeights = WeightMap<StoredWeight>;

/**
 * Looks up every weight of a model, checks shape and format, and returns views of the mapped files.
 * @throws AccelError as {@link checkWeights}
 */
export function bindWeights(source: WeightSource, blueprint: Blueprint): StoredWeights {
  const { spec, layout } = blueprint;
  // All checks come before the first tensor is made, so nothing is left behind if one fails.
  checkWeights(source, blueprint);
  const layers = Array.from({ length: spec.layers }, (_, index) => layout.layer(index));
  const embed = source.weight(layout.embed);
  return {
    embed,
    norm: source.weight(layout.norm),
    lmHead: spec.tiedEmbeddings ? embed : source.weight(layout.lmHead),
    layers: layers.map((names) => mapLayer(names, (place) => bind(source, place))),
  };
}

/**
 * Checks that every weight of a model is there, with its shape, in a format that can be loaded; headers are enough for that.
 *
 * A tensor inside the layers that the family does not use is an error: a checkpoint with, say, biases that are not
 * added would give wrong text without any other sign.
 *
 * @throws AccelError `ERR_ACCEL_WEIGHTS` naming the file and the tensor
 */
export function checkWeights(source: WeightSource, { spec, layout }: Blueprint): void {
  const layers = Array.from({ length: spec.layers }, (_, index) => layout.layer(index));
  const wanted = [...tensorsOf(spec, layout, layers)];
  for (const [name, shape] of wanted) check(source, name, shape, spec);
  refuseUnused(source, new Set(wanted.map(([name]) => name)), spec, layout);
}

/** A layer with something else in the place of every weight it has. */
export function mapLayer<A, B>(layer: LayerMap<A>, change: (weight: A) => B): LayerMap<B> {
  const entries = Object.entries(layer) as [string, A | undefined][];
  return Object.fromEntries(
    entries.flatMap(([key, weight]) => (weight === undefined ? [] : [[key, change(weight)]])),
  ) as unknown as LayerMap<B>;
}

function bind(source: WeightSource, place: string | FusedRows): StoredWeight {
  if (typeof place === 'string') return source.weight(place);
  const { data, shape, ...rest } = source.weight(place.name);
  using whole = data;
  return {
    ...rest,
    data: whole.slice(place.begin, place.end),
    shape: [place.end - place.begin, ...shape.slice(1)],
  };
}

/** Every tensor that is needed and the shape it must have; the parts of a fused one give it several times. */
function* tensorsOf(
  spec: ModelSpec,
  layout: Layout,
  layers: readonly LayerNames[],
): Generator<[name: string, shape: readonly number[]]> {
  const matrix = [spec.vocabSize, spec.hiddenSize];
  yield [layout.embed, matrix];
  yield [layout.norm, [spec.hiddenSize]];
  if (!spec.tiedEmbeddings) yield [layout.lmHead, matrix];
  const shapes = layerShapes(spec);
  for (const names of layers) {
    for (const [key, place] of Object.entries(names) as [
      keyof LayerNames,
      string | FusedRows | undefined,
    ][]) {
      if (place === undefined) continue;
      if (typeof place === 'string') yield [place, shapes[key]];
      else yield [place.name, [place.of, ...shapes[key].slice(1)]];
    }
  }
}

/** The shape of each weight of a layer. */
export function layerShapes(spec: ModelSpec): Required<LayerMap<readonly number[]>> {
  const { hiddenSize, intermediateSize, headDim } = spec;
  const q = spec.heads * headDim;
  const kv = spec.kvHeads * headDim;
  return {
    inputNorm: [hiddenSize],
    q: [q, hiddenSize],
    k: [kv, hiddenSize],
    v: [kv, hiddenSize],
    o: [hiddenSize, q],
    qBias: [q],
    kBias: [kv],
    vBias: [kv],
    oBias: [hiddenSize],
    qNorm: [headDim],
    kNorm: [headDim],
    attentionOutNorm: [hiddenSize],
    postNorm: [hiddenSize],
    gate: [intermediateSize, hiddenSize],
    up: [intermediateSize, hiddenSize],
    down: [hiddenSize, intermediateSize],
    mlpOutNorm: [hiddenSize],
  };
}

const FLOATS = ['float32', 'bfloat16', 'float16'];

function check(
  source: WeightSource,
  name: string,
  shape: readonly number[],
  spec: ModelSpec,
): void {
  if (!source.has(name)) {
    throw new AccelError(
      'ERR_ACCEL_WEIGHTS',
      `${source.path}: the tensor ${name} is missing, which ${spec.name} needs. ${whyMissing(source, name)}`,
    );
  }
  const info = source.info(name);
  if (info.shape.length !== shape.length || info.shape.some((extent, i) => extent !== shape[i])) {
    throw new AccelError(
      'ERR_ACCEL_WEIGHTS',
      `${info.file}: ${name} has shape [${info.shape.join(', ')}], but the configuration calls for [${shape.join(', ')}]. ` +
        'Take configuration and weights from the same checkpoint.',
    );
  }
  if (info.packed === undefined && !FLOATS.includes(info.dtype ?? '')) {
    throw new AccelError(
      'ERR_ACCEL_WEIGHTS',
      `${info.file}: ${name} is stored as ${info.storedAs}; weights must be F32, BF16 or F16. Convert the checkpoint, or take an unquantised one.`,
    );
  }
}

function whyMissing(source: WeightSource, name: string): string {
  if (name === 'lm_head.weight') {
    return 'If the output projection is the embedding matrix, config.json must say "tie_word_embeddings": true.';
  }
  if (source.has(name.replace(/weight$/, 'qweight'))) {
    return 'There is a packed one, as GPTQ and AWQ write: such checkpoints cannot be computed with. Take the unquantised one, or a GGUF file.';
  }
  return 'The download may be incomplete, or the configuration belongs to another checkpoint.';
}

function refuseUnused(
  source: WeightSource,
  used: ReadonlySet<string>,
  spec: ModelSpec,
  layout: Layout,
): void {
  const extra = source.names.filter(
    (name) =>
      name.startsWith(layout.inside) && !used.has(name) && layout.unused?.test(name) !== true,
  );
  if (extra.length === 0) return;
  const shown = extra.slice(0, 4).join(', ');
  throw new AccelError(
    'ERR_ACCEL_WEIGHTS',
    `${source.path} holds ${extra.length} tensors that the ${spec.architecture} forward pass does not use (${shown}${extra.length > 4 ? ', …' : ''}); ` +
      'leaving them out would change the results. Check num_hidden_layers and the biases in the configuration, and that the architecture is right.',
  );
}
