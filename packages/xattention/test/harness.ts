import { ops, Tensor, type DType } from '@accel/kernels';
import { queryRows, sparseCache, unpackMask, type SparseInputs } from '@accel/testkit';
import { xattentionBlocks, type Stride } from '../src/index.js';

/** What a test says about a call; the rest is the prompt's. */
export interface Estimate {
  readonly stride: Stride;
  /** One for all heads, or one a head. */
  readonly threshold: number | readonly number[];
  readonly dtype?: DType;
  readonly norm?: number;
  /** Row blocks of the first chunk. */
  readonly first?: number;
  /** First query. Default 0. */
  readonly begin?: number;
  /** Behind the last query and row. Default: all tokens. */
  readonly end?: number;
  /** Attend over the mask too. */
  readonly attend?: boolean;
}

/** What came of it. */
export interface Estimated {
  readonly rowBlocks: number;
  readonly columns: number;
  /** `[heads, rowBlocks, columns]` */
  readonly sums: Float32Array;
  /** The same shape, 0 or 1. */
  readonly mask: Uint8Array;
  readonly words: Int32Array;
  /** `[heads, 2]` */
  readonly figures: Float32Array;
  /** `[m, heads, headDim]`, `[m, heads]`; empty unless `attend`. */
  readonly out: Float32Array;
  readonly lse: Float32Array;
}

/** Runs `xattention_blocks` on rows of a prompt. */
export async function estimate(
  device: string,
  inputs: SparseInputs,
  options: Estimate,
): Promise<Estimated> {
  const { heads, headDim, tokens } = inputs;
  const { stride, threshold, dtype = 'float32', norm = 1, first = 0, attend = false } = options;
  const { begin = 0, end = tokens } = options;
  using cache = sparseCache(device, inputs, { dtype, rows: end });
  const m = end - begin;
  const rowBlocks = Math.ceil(m / 128);
  const columns = Math.ceil(end / 128);
  const words = Math.ceil(columns / 32);
  const shares = Float64Array.from({ length: heads }, (_, head) =>
    typeof threshold === 'number' ? threshold : (threshold[head] as number),
  );
  using q = cache.floats(queryRows(inputs, begin, end), [m, heads, headDim]);
  using mask = Tensor.from(cache.device, new Int32Array(rowBlocks * heads * words).fill(-1), [
    rowBlocks,
    heads,
    words,
  ]);
  using figures = Tensor.empty(cache.device, 'float32', [heads, 2]);
  using sums = Tensor.empty(cache.device, 'float32', [heads, rowBlocks, columns]);
  using thresholds = Tensor.from(cache.device, shares, [heads]);
  const scale = 1 / Math.sqrt(headDim);
  const kv = cache.kv.kv(0);
  const { stream } = cache;
  xattentionBlocks(stream, mask, figures, q, kv, { stride, scale, norm, thresholds, first, sums });
  let out = new Float32Array();
  let lse = new Float32Array();
  if (attend) {
    using attended = cache.empty([m, heads, headDim]);
    using logSums = Tensor.empty(cache.device, 'float32', [m, heads]);
    ops.blockSparseAttention(stream, attended, logSums, q, kv, Int32Array.of(m), { scale, mask });
    out = (await attended.read(stream)) as Float32Array<ArrayBuffer>;
    lse = (await logSums.read(stream)) as Float32Array<ArrayBuffer>;
  }
  const bits = (await mask.read(stream)) as Int32Array;
  return {
    rowBlocks,
    columns,
    sums: (await sums.read(stream)) as Float32Array,
    mask: unpackMask(bits, rowBlocks, heads, columns),
    words: bits,
    figures: (await figures.read(stream)) as Float32Array,
    out,
    lse,
  };
}

/** A head's part of `[heads, …]`. */
export function ofHead<T extends Uint8Array | Float32Array>(all: T, heads: number, head: number) {
  const size = all.length / heads;
  return all.subarray(head * size, (head + 1) * size) as T;
}

/** Number of ones. */
export function count(bytes: Uint8Array): number {
  return bytes.reduce((sum, byte) => sum + byte, 0);
}
