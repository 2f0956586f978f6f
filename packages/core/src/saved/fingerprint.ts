import { createHash } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import type { Tensor } from '@accel/kernels';
import { z } from 'zod';
import type { Runtime } from '../engine/runtime.js';
import type { LayerWeights } from '../models/bind.js';
import type { JsonValue } from '../policy/part.js';

/** What must be equal in two models for one to go on with the other's cache; in the order in which it is compared. */
const fields = [
  'name',
  'architecture',
  'dtype',
  'layers',
  'heads',
  'kvHeads',
  'headDim',
  'hiddenSize',
  'vocabSize',
  'ropeTheta',
  'rope',
  'rotaryDim',
  'ropeInterleaved',
  'slidingWindow',
  'weights',
] as const;

/** A model's identity in a file, by {@link fields}. */
export type Fingerprint = Readonly<Record<(typeof fields)[number], JsonValue>>;

export const fingerprintSchema: z.ZodType<Fingerprint> = z.record(z.enum(fields), z.json());

/** The fingerprint of a model as it runs here. */
export async function fingerprint(runtime: Runtime): Promise<Fingerprint> {
  const { spec, dtype } = runtime;
  const { name, architecture, layers, heads, kvHeads, headDim, hiddenSize, vocabSize } = spec;
  const { ropeTheta, rope, rotaryDim, ropeInterleaved, slidingWindow } = spec;
  return {
    ...{ name, architecture, dtype, layers, heads, kvHeads, headDim, hiddenSize, vocabSize },
    ...{ ropeTheta, rope: { ...rope }, rotaryDim, ropeInterleaved },
    slidingWindow: slidingWindow === undefined ? null : { ...slidingWindow },
    weights: await weightsOf(runtime),
  };
}

/** The first field in which two models differ, in words. */
export function difference(saved: Fingerprint, here: Fingerprint): string | undefined {
  const field = fields.find((one) => !isDeepStrictEqual(saved[one], here[one]));
  if (field === undefined) return undefined;
  const [then, now] = [saved[field], here[field]].map((value) => JSON.stringify(value));
  return `${field} is ${String(then)} there and ${String(now)} here`;
}

const digests = new WeakMap<Runtime, Promise<string>>();

/** Weights do not change, so they are looked at once. */
function weightsOf(runtime: Runtime): Promise<string> {
  let digest = digests.get(runtime);
  if (digest === undefined) {
    digests.set(runtime, (digest = weightsDigest(runtime)));
    // A read may fail for what an op before it did: the next call tries again.
    digest.catch(() => digests.delete(runtime));
  }
  return digest;
}

const matrices = ['q', 'k', 'v', 'o', 'gate', 'up', 'down'] as const;

/** A digest of the first row of every matrix: other weights under the same name and shape have another one. */
async function weightsDigest({ weights, stream }: Runtime): Promise<string> {
  const rows = weights.layers.flatMap((layer: LayerWeights) =>
    matrices.map((matrix) => firstRow(layer[matrix])),
  );
  const hash = createHash('sha256');
  for (const values of await Promise.all(rows)) hash.update(values as Float32Array);
  return hash.digest('hex');

  async function firstRow(matrix: Tensor): Promise<ArrayBufferView> {
    using row = matrix.slice(0, 1);
    return await row.read(stream);
  }
}
