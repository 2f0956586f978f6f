import { fileURLToPath } from 'node:url';
import { loadOpLibrary, type KvArg, type Op, type Stream, type Tensor } from '@accel/kernels';

/** The op library; the same path from `src` and from `dist`. */
export const LIBRARY: string = fileURLToPath(
  new URL('../build/Release/accel_flexprefill.so', import.meta.url),
);
let loaded: Op | undefined;

/** What {@link flexprefillBlocks} writes. `B` is `block`, n the rows of the cache. */
export interface BlocksOut {
  /** int32 `[⌈m / 128⌉, heads, ⌈⌈n / 128⌉ / 32⌉]`: bit j % 32 of word j / 32 stands for 128 keys. */
  readonly mask: Tensor;
  /** float32 `[heads, 5]`: see {@link FIGURES}. */
  readonly figures: Tensor;
  /** int32 `[⌈m / B⌉, heads, ⌈⌈n / B⌉ / 32⌉]`: the choice in blocks of B, before it is widened to blocks of 128. */
  readonly fine?: Tensor | undefined;
  /** int32 `[heads, 6]`: tokens c(v), c(w); vertical blocks, slash blocks; query-aware; blocks added for that. */
  readonly counts?: Tensor | undefined;
  /** float32 `[heads, 3, ⌈n / B⌉]`: pooled vertical profile, pooled slash profile, pooled-key estimate. */
  readonly profiles?: Tensor | undefined;
}

/** What {@link flexprefillBlocks} chooses by. */
export interface BlocksRule {
  readonly scale: number;
  readonly gamma: number;
  readonly tau: number;
  /** Vertical blocks, and slash blocks, at least. */
  readonly minBlocks: number;
  /** At most; undefined: as many as there are. */
  readonly maxBlocks: number | undefined;
  readonly block: 64 | 128;
  readonly compat: boolean;
}

/** Names of the numbers that a head reports. */
export const FIGURES = [
  'recall',
  'queryAware',
  'divergence',
  'verticalBlocks',
  'slashBlocks',
] as const;

const NO_LIMIT = 2 ** 31 - 1;

/**
 * Chooses blocks of the attention of q, the last m of n positions of `kv`: the op of `kernels/flexprefill.h`. Enqueues
 * and returns.
 *
 * @param q `[m, heads, headDim]`; n - m is a multiple of 128
 */
export function flexprefillBlocks(
  stream: Stream,
  out: BlocksOut,
  q: Tensor,
  kv: KvArg,
  rule: BlocksRule,
): void {
  loaded ??= loadOpLibrary(LIBRARY).op('flexprefill_blocks');
  stream.run(
    loaded,
    out.mask,
    out.figures,
    out.fine ?? null,
    out.counts ?? null,
    out.profiles ?? null,
    q,
    kv,
    rule.scale,
    rule.gamma,
    rule.tau,
    rule.minBlocks,
    rule.maxBlocks ?? NO_LIMIT,
    rule.block,
    Number(rule.compat),
  );
}
