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

/** Bytes that are enqueued between two looks at the abort signal and two reports of progress. */
const BATCH_BYTES = 256 * 2 ** 20;

/**
 * Brings every weight to the device and to the compute format; on a CPU, a weight that has the format already stays in
 * the mapped file. Tied matrices are converted once. Copies run ahead while the next file pages are read.
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
    using counts = Tensor.empty(device, 'int32', [named.length]);
    counts.write(stream, new Int32Array(named.length));
    let loadedBytes = 0;
    let waiting = 0;
    for (const [index, [, tensor]] of named.entries()) {
      throwIfAborted(options.signal);
      if (!ready.has(tensor)) {
        using count = counts.slice(index, index + 1);
        ready.set(
          tensor,
          convert(device, stream, tensor, dtype, options.check ? count : undefined),
        );
      }
      loadedBytes += tensor.byteLength;
      waiting += tensor.byteLength;
      if (waiting < BATCH_BYTES && index + 1 < named.length) continue;
      await stream.synchronize();
      waiting = 0;
      options.onProgress?.({ loadedBytes, totalBytes });
    }
    refuseNonfinite(named, (await counts.read(stream)) as Int32Array);
  } catch (error) {
    await stream.synchronize().catch(() => undefined);
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

/** Only enqueues. @param count int32 `[1]`: gets the number of elements that are not finite */
function convert(
  device: Device,
  stream: Stream,
  source: Tensor,
  dtype: DType,
  count: Tensor | undefined,
): Tensor {
  const here = source.to(stream);
  if (count !== undefined) ops.countNonfinite(stream, count, here);
  if (here.dtype === dtype) return here;
  const converted = Tensor.empty(device, dtype, here.shape);
  ops.cast(stream, converted, here);
  if (here !== source) here.dispose();
  return converted;
}

function refuseNonfinite(named: readonly (readonly [string, Tensor])[], counts: Int32Array): void {
  const index = counts.findIndex((count) => count > 0);
  if (index < 0) return;
  throw new AccelError(
    'ERR_ACCEL_NAN',
    `Weight ${named[index]?.[0] ?? ''} holds ${String(counts[index])} values that are NaN or infinite. The file is damaged or was saved from a diverged run: fetch it again, or load with checkWeights: false to look into it.`,
  );
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
