import { ops, Tensor, type DType } from '@accel/kernels';
import { readFloats, TestCache, tokenMajor } from '@accel/testkit';
import { snapkvPool } from '../src/pool.js';
import type { SnapkvSettings } from '../src/settings.js';

/** A prompt's keys and its last queries, head-major as the goldens have them. */
export interface Prompt {
  /** `[heads, window, dim]` */
  readonly queries: Float32Array;
  /** `[kvHeads, tokens, dim]` */
  readonly keys: Float32Array;
  /** `[kvHeads, tokens, dim]`; default: the keys. */
  readonly values?: Float32Array;
  readonly heads: number;
  readonly kvHeads: number;
  readonly tokens: number;
  readonly window: number;
  readonly dim: number;
  /** Format of queries and cache. Default `'float32'`. */
  readonly dtype?: DType;
}

/** A cache that holds a prompt at positions 0, 1, … */
export function cacheOf(device: string, prompt: Prompt): TestCache {
  const { kvHeads, tokens, dim, dtype = 'float32' } = prompt;
  const cache = new TestCache(device, { heads: kvHeads, headDim: dim, dtype });
  const shape = [kvHeads, tokens, dim] as const;
  cache.append(tokenMajor(prompt.keys, shape), tokenMajor(prompt.values ?? prompt.keys, shape), 0);
  return cache;
}

/** The observed queries as ops want them, `[window, heads, dim]`. */
export function queriesOf(cache: TestCache, prompt: Prompt): Tensor {
  const { heads, window, dim } = prompt;
  return cache.floats(tokenMajor(prompt.queries, [heads, window, dim]), [window, heads, dim]);
}

/** What SnapKV's ops compute from a prompt; `'none'` keeps one list of scores per query head. */
export async function selectByOps(
  device: string,
  prompt: Prompt,
  settings: Pick<SnapkvSettings, 'pool'> & {
    readonly reduce: SnapkvSettings['groupReduce'] | 'none';
  },
  capacity: number,
): Promise<{ scores: Float32Array; pooled: Float32Array; keep: number[][] }> {
  const { tokens, window, dim } = prompt;
  const heads = settings.reduce === 'none' ? prompt.heads : prompt.kvHeads;
  const prefix = tokens - window;
  using cache = cacheOf(device, prompt);
  const { stream } = cache;
  using queries = queriesOf(cache, prompt);
  using scores = Tensor.empty(cache.device, 'float32', [heads, tokens]);
  using pooled = Tensor.empty(cache.device, 'float32', [heads, tokens]);
  using index = Tensor.empty(cache.device, 'int32', [heads, capacity]);
  ops.observeScores(stream, scores, queries, cache.kv.kv(0), {
    scale: 1 / Math.sqrt(dim),
    reduce: settings.reduce,
  });
  snapkvPool(stream, pooled, scores, prefix, settings.pool);
  ops.topk(stream, index, pooled, { k: capacity, largest: true });
  const kept = (await index.read(stream)) as Int32Array;
  return {
    scores: columns(await readFloats(scores, stream), tokens, prefix),
    pooled: columns(await readFloats(pooled, stream), tokens, prefix),
    keep: Array.from({ length: heads }, (_, head) => [
      ...kept.subarray(head * capacity, (head + 1) * capacity),
    ]),
  };
}

/** The first `count` columns of a matrix with rows of `width`. */
function columns(data: Float32Array, width: number, count: number): Float32Array {
  return data.filter((_, i) => i % width < count);
}
