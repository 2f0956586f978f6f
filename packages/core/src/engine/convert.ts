import { AccelError, ops, Tensor, type Device, type DType, type Stream } from '@accel/kernels';
import { throwIfAborted } from '../append.js';
import { mapLayer, type ModelWeights, type StoredWeights } from '../models/bind.js';
import type { StoredWeight } from '../weights/source.js';

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
 * the mapped file. Quantised ones are unpacked. Tied matrices are converted once. Copies run ahead while the next file
 * pages are read.
 * @throws AccelError `ERR_ACCEL_NAN` naming the first weight with a NaN or an infinity
 */
export async function convertWeights(
  device: Device,
  stream: Stream,
  weights: StoredWeights,
  dtype: DType,
  options: ConvertOptions,
): Promise<ReadyWeights> {
  const named = [...nameWeights(weights)];
  const totalBytes = named.reduce((sum, [, { data }]) => sum + data.byteLength, 0);
  const ready = new Map<StoredWeight, Tensor>();
  const dispose = (): void => {
    for (const [, stored] of named) stored.data.dispose();
    for (const converted of ready.values()) converted.dispose();
  };
  try {
    using counts = Tensor.empty(device, 'int32', [named.length]);
    counts.write(stream, new Int32Array(named.length));
    let loadedBytes = 0;
    let waiting = 0;
    for (const [index, [, stored]] of named.entries()) {
      throwIfAborted(options.signal);
      if (!ready.has(stored)) {
        using count = counts.slice(index, index + 1);
        ready.set(
          stored,
          convert(device, stream, stored, dtype, options.check ? count : undefined),
        );
      }
      loadedBytes += stored.data.byteLength;
      waiting += stored.data.byteLength;
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
  const get = (stored: StoredWeight): Tensor => ready.get(stored) ?? stored.data;
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
  { data: source, shape, packed }: StoredWeight,
  dtype: DType,
  count: Tensor | undefined,
): Tensor {
  const here = source.to(stream);
  if (packed !== undefined) {
    const unpacked = Tensor.empty(device, dtype, shape);
    using rows = unpacked.view([here.shape[0] ?? 0, shape.at(-1) ?? 0]);
    ops.dequantize(stream, rows, here, packed);
    if (here !== source) here.dispose();
    if (count !== undefined) ops.countNonfinite(stream, count, unpacked);
    return unpacked;
  }
  if (count !== undefined) ops.countNonfinite(stream, count, here);
  if (here.dtype === dtype) return here;
  const converted = Tensor.empty(device, dtype, here.shape);
  ops.cast(stream, converted, here);
  if (here !== source) here.dispose();
  return converted;
}

function refuseNonfinite(
  named: readonly (readonly [string, StoredWeight])[],
  counts: Int32Array,
): void {
  const index = counts.findIndex((count) => count > 0);
  if (index < 0) return;
  throw new AccelError(
    'ERR_ACCEL_NAN',
    `Weight ${named[index]?.[0] ?? ''} holds ${String(counts[index])} values that are NaN or infinite. The file is damaged or was saved from a diverged run: fetch it again, or load with checkWeights: false to look into it.`,
  );
}

function* nameWeights(weights: StoredWeights): Generator<[string, StoredWeight]> {
  yield ['embed', weights.embed];
  yield ['norm', weights.norm];
  yield ['lmHead', weights.lmHead];
  for (const [index, layer] of weights.layers.entries()) {
    for (const [key, stored] of Object.entries(layer) as [string, StoredWeight][]) {
      yield [`layers.${String(index)}.${key}`, stored];
    }
  }
}
