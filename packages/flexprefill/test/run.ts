import { Tensor, type DType } from '@accel/kernels';
import { queryRows, sparseCache, unpackMask, type SparseInputs } from '@accel/testkit';
import { flexprefillBlocks, type BlocksRule } from '../src/blocks.js';

/** What {@link runBlocks} is given. */
export interface RunOptions extends Partial<BlocksRule> {
  /** Queries `[begin, end)` attend to keys `[0, end)`. Default: all. */
  readonly begin?: number;
  readonly end?: number;
  readonly dtype?: DType;
}

/** What the op wrote, for one head. */
export interface Head {
  /** `[rowBlocks * columns]`, in blocks of B. */
  readonly mask: Uint8Array;
  /** `[⌈m / 128⌉ * ⌈n / 128⌉]`. */
  readonly wide: Uint8Array;
  readonly counts: number[];
  readonly budgets: number[];
  readonly aware: number;
  readonly extra: number;
  readonly figures: number[];
  readonly vertical: Float32Array;
  readonly slash: Float32Array;
  readonly estimate: Float32Array;
}

/** The README's values of the original, on the inputs' own scale. */
export function ruleOf(headDim: number, options: Partial<BlocksRule> = {}): BlocksRule {
  return {
    scale: options.scale ?? 1 / Math.sqrt(headDim),
    gamma: options.gamma ?? 0.9,
    tau: options.tau ?? 0.1,
    minBlocks: options.minBlocks ?? 1,
    maxBlocks: options.maxBlocks,
    block: options.block ?? 128,
    compat: options.compat ?? false,
  };
}

/** Runs the op on a cache of its own. */
export async function runBlocks(
  device: string,
  inputs: SparseInputs,
  options: RunOptions = {},
): Promise<Head[]> {
  const { begin = 0, end = inputs.tokens, dtype = 'float32' } = options;
  const rule = ruleOf(inputs.headDim, options);
  const { heads, headDim } = inputs;
  using cache = sparseCache(device, inputs, { dtype, rows: end });
  const { stream, device: where } = cache;
  const m = end - begin;
  const [rows, columns] = [Math.ceil(m / rule.block), Math.ceil(end / rule.block)];
  const [wideRows, wideColumns] = [Math.ceil(m / 128), Math.ceil(end / 128)];
  using q = cache.floats(queryRows(inputs, begin, end), [m, heads, headDim]);
  using mask = Tensor.empty(where, 'int32', [wideRows, heads, Math.ceil(wideColumns / 32)]);
  using fine = Tensor.empty(where, 'int32', [rows, heads, Math.ceil(columns / 32)]);
  using figures = Tensor.empty(where, 'float32', [heads, 5]);
  using counts = Tensor.empty(where, 'int32', [heads, 6]);
  using profiles = Tensor.empty(where, 'float32', [heads, 3, columns]);
  flexprefillBlocks(stream, { mask, fine, figures, counts, profiles }, q, cache.kv.kv(0), rule);
  const wide = unpackMask((await mask.read(stream)) as Int32Array, wideRows, heads, wideColumns);
  const narrow = unpackMask((await fine.read(stream)) as Int32Array, rows, heads, columns);
  const numbers = (await counts.read(stream)) as Int32Array;
  const told = (await figures.read(stream)) as Float32Array;
  const pooled = (await profiles.read(stream)) as Float32Array;
  return Array.from({ length: heads }, (_, h) => {
    const own = [...numbers.subarray(6 * h, 6 * h + 6)];
    const profile = (i: number) => pooled.slice((3 * h + i) * columns, (3 * h + i + 1) * columns);
    return {
      mask: narrow.slice(h * rows * columns, (h + 1) * rows * columns),
      wide: wide.slice(h * wideRows * wideColumns, (h + 1) * wideRows * wideColumns),
      counts: own.slice(0, 2),
      budgets: own.slice(2, 4),
      aware: own[4] as number,
      extra: own[5] as number,
      figures: [...told.subarray(5 * h, 5 * h + 5)],
      vertical: profile(0),
      slash: profile(1),
      estimate: profile(2),
    };
  });
}

/** Number of ones. */
export function ones(mask: Uint8Array): number {
  return mask.reduce((sum, bit) => sum + bit, 0);
}
