import {
  compose,
  freezePart,
  type LayerEnd,
  type Model,
  type SelectPart,
  type Selector,
} from '@accel/core';
import { ops, Tensor } from '@accel/kernels';
import { allocate, preference } from '../src/allocation.js';
import { referenceStatistics, type ReferenceStatistics } from '../src/reference.js';

/** Statistics of a layer in float64, from the keys and queries that the engine has there. */
export interface Probed extends ReferenceStatistics {
  readonly rows: number;
}

/** Runs a prompt without evicting and computes every layer's statistics from what it left. */
export async function probe(
  model: Model,
  ids: ArrayLike<number>,
  options: { readonly window: number; readonly gamma?: number },
): Promise<Probed[]> {
  const { window, gamma = 200 } = options;
  const { heads, kvHeads, headDim: dim, attentionScale: scale } = model.spec;
  const reads: Promise<[Float32Array, Float32Array]>[] = [];
  using sequence = model.sequence({ policy: compose(looking(window, reads)) });
  await sequence.append(ids);
  const layers: Probed[] = [];
  for (const read of reads) {
    const [queries, keys] = await read;
    const rows = keys.length / (kvHeads * dim);
    const sizes = { heads, kvHeads, dim, scale, gamma, window };
    const input = { ...sizes, queries: headMajor(queries, heads, dim), keys };
    layers.push({ ...referenceStatistics(input), rows });
  }
  return layers;
}

/** A selector that evicts nothing and reads queries and keys of every layer. */
function looking(
  observe: number,
  reads: Promise<[Float32Array, Float32Array]>[],
): SelectPart<'looking', never> {
  const create = (): Selector => ({
    prefillEnd({ layer, kv, rows, queries, stream }: LayerEnd): void {
      if (queries === undefined) throw new Error('the engine observes queries');
      const { heads, headDim, dtype } = kv.shape;
      using keys = Tensor.empty(stream.device, dtype, [heads, rows, headDim]);
      ops.kvRead(stream, keys, null, null, kv.kv(layer));
      const both = Promise.all([queries.read(stream), keys.read(stream)]);
      reads.push(both as Promise<[Float32Array, Float32Array]>);
    },
    fork: create,
    dispose: () => undefined,
  });
  return freezePart({
    id: 'looking',
    slot: 'select',
    needs: [],
    provides: [],
    lossy: false,
    positions: 'original',
    options: {},
    observe,
    create,
  });
}

/** `[tokens, heads, dim]` as `[heads, tokens, dim]`. */
function headMajor(data: Float32Array, heads: number, dim: number): Float32Array {
  const tokens = data.length / (heads * dim);
  const out = new Float32Array(data.length);
  for (let token = 0; token < tokens; token++) {
    for (let head = 0; head < heads; head++) {
      const from = (token * heads + head) * dim;
      out.set(data.subarray(from, from + dim), (head * tokens + token) * dim);
    }
  }
  return out;
}

/** What {@link cascadeOf} returns; rows of every layer, the window included. */
export interface Cascade {
  /** Stored at the end of the prompt. */
  readonly rows: number[];
  /** Allowed while decoding. */
  readonly decode: number[];
  /** How far the nearest share is from the next whole number, as a part of a row. */
  readonly margin: number;
}

/** The cascade over layers that were probed, stage by stage. */
export function cascadeOf(
  layers: readonly Probed[],
  options: {
    readonly capacity: number;
    readonly window: number;
    readonly tau1?: number;
    readonly tau2?: number;
  },
): Cascade {
  const { capacity, window, tau1 = 1, tau2 = 1 } = options;
  const total = layers.length * (capacity - window);
  const most = (layers[0]?.rows ?? 0) - window;
  const stored = layers.map(() => most);
  const claims: number[] = [];
  let shares: number[] = [];
  let margin = Infinity;
  for (const { dispersion, shift } of layers) {
    claims.push(preference(dispersion, shift, tau1, tau2));
    shares = allocate(claims, total, most);
    for (const [i, share] of shares.entries()) stored[i] = Math.min(stored[i] ?? 0, share);
    // With one layer the share is the whole total, exactly.
    if (claims.length === 1) continue;
    const sum = claims.reduce((a, b) => a + b, 0);
    for (const claim of claims) {
      const share = (claim / sum) * total;
      margin = Math.min(margin, Math.abs(share - Math.round(share)));
    }
  }
  return {
    rows: stored.map((rows) => rows + window),
    decode: shares.map((rows) => rows + window),
    margin,
  };
}
