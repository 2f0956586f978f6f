import { AccelError, ops, Tensor, type Device, type DType, type Stream } from '@accel/kernels';
import { throwIfAborted } from '../append.js';
import type { LayerWeights, ModelWeights } from '../models/family.js';

/** Options of {@link convertWeights}. */
export interface ConvertOptions {
  /** Look for NaN and infinity. */
  readonly check: boolean;
  readonly onProgress?: (progress: { loadedBytes: number; totalBytes: number }) => void;
  readonly signal?: AbortSignal;
}

/** Weights in the compute format. Disposing releases the converted copies and the views of the files. */
export interface ReadyWeights extends ModelWeights, Disposable {}

/**
 * Brings every weight to the compute format; a weight that has it already stays where it is. Tied matrices are
 * converted once.
 * @throws AccelError `ERR_ACCEL_NAN` naming the first weight with a NaN or an infinity
 */
export async function convertWeights(
  device: Device,
  stream: Stream,
  weights: ModelWeights,
  dtype: DType,
  options: ConvertOptions,
): Promise<ReadyWeights> {
  const named = [...nameWeights(weights)];
  const totalBytes = named.reduce((sum, [, tensor]) => sum + tensor.byteLength, 0);
  const ready = new Map<Tensor, Tensor>();
  const dispose = (): void => {
    for (const [source, converted] of ready) {
      source.dispose();
      converted.dispose();
    }
  };
  try {
    let loadedBytes = 0;
    for (const [name, tensor] of named) {
      throwIfAborted(options.signal);
      if (!ready.has(tensor))
        ready.set(tensor, await convert(device, stream, name, tensor, dtype, options.check));
      loadedBytes += tensor.byteLength;
      options.onProgress?.({ loadedBytes, totalBytes });
    }
  } catch (error) {
    dispose();
    throw error;
  }
  const get = (tensor: Tensor): Tensor => ready.get(tensor) ?? tensor;
  return {
    embed: get(weights.embed),
    norm: get(weights.norm),
    lmHead: get(weights.lmHead),
    layers: weights.layers.map((layer) => mapLayer(layer, get)),
    [Symbol.dispose]: dispose,
  };
}

async function convert(
  device: Device,
  stream: Stream,
  name: string,
  tensor: Tensor,
  dtype: DType,
  check: boolean,
): Promise<Tensor> {
  if (check) {
    using count = Tensor.empty(device, 'int32', [1]);
    ops.countNonfinite(stream, count, tensor);
    const [bad = 0] = await count.read(stream);
    if (bad > 0) {
      throw new AccelError(
        'ERR_ACCEL_NAN',
        `Weight ${name} holds ${String(bad)} values that are NaN or infinite. The file is damaged or was saved from a diverged run: fetch it again, or load with checkWeights: false to look into it.`,
      );
    }
  }
  if (tensor.dtype === dtype) return tensor;
  const converted = Tensor.empty(device, dtype, tensor.shape);
  ops.cast(stream, converted, tensor);
  await stream.synchronize();
  return converted;
}

function* nameWeights(weights: ModelWeights): Generator<[string, Tensor]> {
  yield ['embed', weights.embed];
  yield ['norm', weights.norm];
  yield ['lmHead', weights.lmHead];
  for (const [index, layer] of weights.layers.entries()) {
    for (const [key, tensor] of Object.entries(layer) as [string, Tensor | undefined][]) {
      if (tensor !== undefined) yield [`layers.${String(index)}.${key}`, tensor];
    }
  }
}

function mapLayer(layer: LayerWeights, get: (tensor: Tensor) => Tensor): LayerWeights {
  const entries = Object.entries(layer) as [string, Tensor | undefined][];
  return Object.fromEntries(
    entries.map(([key, tensor]) => [key, tensor && get(tensor)]),
  ) as unknown as LayerWeights;
}
