import type { KvSequence, Stream, Tensor } from '@accel/kernels';

/** The end of a layer's work in one prompt or step; attention has used the cache as it is now. */
export interface LayerEnd {
  readonly layer: number;
  readonly phase: 'prefill' | 'decode';
  /** 0 in the first prompt, 1 in the next, … */
  readonly turn: number;
  readonly kv: KvSequence;
  /** Rows of kv head 0 before eviction, the same for all heads unless the selector made them differ. */
  readonly rows: number;
  /** Rows that are new in this turn or step. */
  readonly appended: number;
  /** Positions seen so far, the new ones included. */
  readonly seen: number;
  /**
   * The last `min(observe, appended)` queries of a prompt or later turn, rotated, `[w, heads, headDim]`; undefined in a
   * decode step, and when the part observes none. Valid until the hook returns.
   */
  readonly queries: Tensor | undefined;
  /** Factor on attention logits. */
  readonly scale: number;
  /** Positions that a token of this layer sees, its own included: the `window` of ops that attend. 0: no limit. */
  readonly slidingWindow: number;
  readonly stream: Stream;
  /** Rows that a budget part lets the layer hold, once it has decided; undefined without a budget part. */
  readonly budget: number | undefined;
  /**
   * Lets the policy's merge part, if there is one, fold the values of rows that are about to leave into others. For
   * single rows that leave in a decode step: the row number, or int32 `[kvHeads]` with one for each head.
   */
  readonly merge: ((victim: number | Tensor) => void) | undefined;
  /** Says what was done in this layer, for the receipt. Rows per head. */
  report(part: {
    readonly rowsIn: number;
    readonly rowsKept: number;
    readonly note?: string;
  }): void;
}

/** The start of a turn, before its tokens are appended. */
export interface TurnStart {
  readonly turn: number;
  readonly tokens: number;
  readonly kv: KvSequence;
  readonly seen: number;
}
