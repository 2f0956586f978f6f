import type { KvArg, Stream, Tensor } from '@accel/kernels';
import type { ChoiceOutline } from './forecast.js';
import type { JsonValue, Part, Signal } from './part.js';
import type { Saveable } from './saved.js';
import type { PartSetup } from './setup.js';

/** Rows and columns of the blocks that a sparse prefill chooses from. */
export const BLOCK = 128;

/**
 * A part that chooses which 128 × 128 blocks of a prompt's attention are computed. Its signals are what it `provides`,
 * besides decode probabilities: what an observed window needs is computed densely anyway, sums over all queries are not.
 */
export interface PrefillPart<Id extends string = string, P extends Signal = Signal> extends Part<
  Id,
  'prefill',
  never,
  P
> {
  /**
   * What it has to tell about each choice, one number a query head. `recall`, the share of attention that it believes to be
   * in the blocks, comes first. Over several chunks of a prompt the receipt has their mean, of names that begin with `min`
   * the smallest.
   */
  readonly figures: readonly ['recall', ...string[]];
  /** Scratch memory of its ops on a GPU: bytes of the pieces that a choice takes at a time. Default none. */
  scratchBytes?(choice: ChoiceOutline): readonly number[];
  /** Makes the state for one sequence. @param saved what {@link Saveable.save} gave, for one that comes from a file */
  create(setup: PartSetup, saved?: JsonValue): BlockChooser;
}

/** A choice of blocks at work on one sequence, which owns it. Hooks only enqueue. */
export interface BlockChooser extends Saveable {
  /** Rows up to which dense attention is right; strict mode demands that blocks are chosen beyond. */
  readonly idleRows: number;
  /** Its GPU kernels that run only when a faster one could not, by name, and why that is: receipts list them. */
  readonly slowKernels?: Readonly<Record<string, string>>;
  /**
   * Enqueues the ops that fill `call.mask` and `call.figures`.
   * @returns undefined, or, when these queries should attend densely instead, why, as half a sentence; nothing was
   *   enqueued then
   */
  choose(call: BlockCall): string | undefined;
  /** State for a fork of the sequence. */
  fork(): BlockChooser;
  dispose(): void;
}

/** Consecutive queries of a prompt in one layer. Their keys and values are in the cache already, as its last `m` rows. */
export interface BlockCall {
  readonly layer: number;
  readonly stream: Stream;
  /** Queries rotated at their positions, `[m, heads, headDim]`. */
  readonly q: Tensor;
  /** The layer's cache of this one sequence; all its heads have `rows` rows. */
  readonly kv: KvArg;
  /** At least {@link BLOCK}. */
  readonly m: number;
  /** Rows in the cache, the `m` new ones included. `rows - m` is a multiple of {@link BLOCK}. */
  readonly rows: number;
  readonly scale: number;
  /**
   * int32 `[⌈m / 128⌉, heads, ⌈rows / 4096⌉]`, undefined at first: bit `j % 32` of word `j / 32` says whether block
   * column j is computed for a block of queries. Bits beyond the diagonal have no meaning; the diagonal is always computed.
   */
  readonly mask: Tensor;
  /** float32 `[heads, figures]`, to be filled. */
  readonly figures: Tensor;
}
