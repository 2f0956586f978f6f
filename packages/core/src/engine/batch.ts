import { kvBatch, type DType, type KvArg, type Tensor } from '@accel/kernels';
import { BLOCK } from '../policy/prefill.js';
import type { Piece } from './chunks.js';
import type { Runtime } from './runtime.js';
import type { SequenceState } from './state.js';

/** New tokens of one sequence in a pass. */
export interface BatchItem {
  readonly state: SequenceState;
  readonly tokens: Int32Array;
  /** How many of the last positions get logits, at least 1. */
  readonly logits: number;
}

/** The sequences that go through the model together, packed one after another. */
export class Batch {
  readonly runtime: Runtime;
  readonly items: readonly BatchItem[];
  readonly phase: 'prefill' | 'decode';
  /** Packed rows of all sequences. */
  readonly rows: number;
  readonly lengths: readonly number[];
  /** The packed tokens when they exist on the device alone: drawn there and not read back yet. */
  readonly drawn: Tensor | undefined;

  constructor(
    runtime: Runtime,
    items: readonly BatchItem[],
    phase: 'prefill' | 'decode',
    drawn?: Tensor,
  ) {
    this.runtime = runtime;
    this.drawn = drawn;
    this.items = items;
    this.phase = phase;
    this.lengths = items.map((item) => item.tokens.length);
    this.rows = this.lengths.reduce((sum, length) => sum + length, 0);
  }

  state(piece: Piece): SequenceState {
    return this.item(piece.item).state;
  }

  /** A layer's caches of some sequences, as an argument of an op. */
  kv(pieces: readonly Piece[], layer: number): KvArg {
    const [only] = pieces;
    if (pieces.length === 1 && only !== undefined) return this.state(only).kv.kv(layer);
    return kvBatch(
      pieces.map((piece) => this.state(piece).kv),
      layer,
    );
  }

  /**
   * Scratch memory of the pass in the compute format. Decode steps have tensors of their own: a replayed step must
   * find them where they were, however much a prefill has grown meanwhile.
   */
  scratch(name: string, shape: readonly number[], dtype: DType = this.runtime.dtype): Tensor {
    return this.runtime.workspace.get(`${this.phase} ${name}`, dtype, shape);
  }

  item(index: number): BatchItem {
    const item = this.items[index];
    if (item === undefined) throw new RangeError(`no sequence ${String(index)} in the batch`);
    return item;
  }

  length(index: number): number {
    return this.lengths[index] ?? 0;
  }

  /** Observed queries of a prompt, `[min(observe, new tokens), Hq, d]`; valid until the next layer. */
  window(index: number): Tensor | undefined {
    const rows = this.observed(index);
    if (rows === 0) return undefined;
    const { spec } = this.runtime;
    return this.scratch(`observed ${String(index)}`, [rows, spec.heads, spec.headDim]);
  }

  /** Rows of {@link window}: none in a decode step, or when no part of the sequence observes. */
  observed(index: number): number {
    const { state, tokens } = this.item(index);
    return this.phase === 'decode' ? 0 : Math.min(state.parts.observe, tokens.length);
  }

  /** Whether some rows of a sequence may be encoded, so that attention is its format's affair. */
  encoded({ format, turn }: SequenceState): boolean {
    return format !== undefined && (this.phase === 'decode' || turn > 0);
  }

  /**
   * After how many new tokens of a sequence the grid of blocks begins that its prefill part chooses from; undefined without
   * one. Layers that hold other numbers of rows than the first are off the grid and attend densely.
   */
  grid(index: number): number | undefined {
    const { state } = this.item(index);
    if (this.phase === 'decode' || state.chooser === undefined) return undefined;
    return (BLOCK - (state.kv.rows(0, 0) % BLOCK)) % BLOCK;
  }

  /** Whether attention of the sequence's new tokens is counted, so that its log-sum-exp is needed. */
  counts(index: number): boolean {
    const { state } = this.item(index);
    if (this.encoded(state)) return false; // no part that may be composed with a codec needs it
    return this.phase === 'decode' ? state.parts.countsDecode : state.parts.countsPrompt;
  }

  /** Rows at the end of a sequence whose last-layer output is read by somebody. */
  tail(index: number): number {
    const { logits, tokens } = this.item(index);
    return Math.min(tokens.length, Math.max(logits, this.observed(index), 1));
  }
}
