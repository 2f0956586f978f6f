import type { Device, DType, KvSequence, Stream, Tensor } from '@accel/kernels';
import type { ModelSpec } from '../config/spec.js';
import type { RopeFrequencies } from '../engine/rope.js';
import type { Part, Signal } from './part.js';

/** A part that decides which rows of the cache stay. */
export interface SelectPart<Id extends string = string, N extends Signal = Signal> extends Part<
  Id,
  'select',
  N,
  never
> {
  /** Kept keys stay rotated at their original position, or are used at their place inside the cache. */
  readonly positions: 'original' | 'cacheRelative';
  /** Rows leave when a prompt ends, or after every token. Default: `'prefillEnd'`. */
  readonly evicts?: 'prefillEnd' | 'everyStep';
  /** Last queries of a prompt, or of a decode step, that the selector gets to see. Default 0. */
  readonly observe?: number;
  /** Makes the state for one sequence. */
  create(setup: SelectorSetup): Selector;
}

/** What a selector is made with. */
export interface SelectorSetup {
  readonly spec: ModelSpec;
  readonly stream: Stream;
  readonly device: Device;
  readonly dtype: DType;
  /** Rotary frequencies for a number of positions seen. */
  rope(length: number): RopeFrequencies;
}

/**
 * A selection at work on one sequence, which owns it. Hooks only enqueue work on the stream: no await, no reading of
 * tensors.
 */
export interface Selector {
  /** Rows up to which evicting nothing is right, normally the budget; strict mode demands action beyond. */
  readonly idleRows?: number;
  /**
   * Positions needed in the model's window by a prompt of `tokens`, or by `tokens` decode steps, if not all that were
   * ever seen. Never falls as `tokens` grows.
   */
  span?(turn: {
    readonly phase: 'prefill' | 'decode';
    readonly rows: number;
    readonly tokens: number;
    readonly seen: number;
  }): number;
  /** Called before a turn's tokens are appended, for example to make room for them. */
  turnStart?(turn: {
    readonly turn: number;
    readonly tokens: number;
    readonly kv: KvSequence;
    readonly seen: number;
  }): void;
  /** Replaces attention for this sequence's tokens; must fill `call.out`. */
  attend?(call: AttendCall): void;
  /** Called once a layer has done all tokens of a prompt or later turn. */
  prefillEnd(layer: LayerEnd): void;
  /** Called once a layer has done a decode step. */
  decodeEnd?(layer: LayerEnd): void;
  /** State for a fork of the sequence; its cache is shared copy-on-write. */
  fork(): Selector;
  dispose(): void;
}

/** The end of a layer's work in one prompt or step; attention has used the cache as it is now. */
export interface LayerEnd {
  readonly layer: number;
  /** 0 in the first prompt, 1 in the next, … */
  readonly turn: number;
  readonly kv: KvSequence;
  /** Rows of kv head 0 before eviction, the same for all heads unless the selector made them differ. */
  readonly rows: number;
  /** Rows that are new in this turn or step. */
  readonly appended: number;
  /** Positions seen so far, the new ones included. */
  readonly seen: number;
  /** The last `min(observe, appended)` queries, rotated, `[w, heads, headDim]`; undefined when the part observes none. */
  readonly queries: Tensor | undefined;
  /** Factor on attention logits. */
  readonly scale: number;
  readonly stream: Stream;
  /** Says what was done in this layer, for the receipt. Rows per head. */
  report(part: {
    readonly rowsIn: number;
    readonly rowsKept: number;
    readonly note?: string;
  }): void;
}

/** Attention of some new tokens of one sequence in one layer. Their keys and values are in the cache already. */
export interface AttendCall {
  readonly layer: number;
  readonly phase: 'prefill' | 'decode';
  /** `[m, heads, headDim]` to be filled. */
  readonly out: Tensor;
  /** Queries rotated at their original positions, `[m, heads, headDim]`. */
  readonly q: Tensor;
  readonly kv: KvSequence;
  /** Rows in the cache, the m new ones included. */
  readonly rows: number;
  readonly m: number;
  /** Original position of the first query. */
  readonly firstPosition: number;
  readonly scale: number;
  readonly stream: Stream;
}
