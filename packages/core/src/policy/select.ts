import type { KvSequence, Stream, Tensor } from '@accel/kernels';
import type { LayerForecast, PromptOutline } from './forecast.js';
import type { LayerEnd, TurnStart } from './layer-end.js';
import type { JsonValue, Part, Signal } from './part.js';
import type { Saveable } from './saved.js';
import type { PartSetup } from './setup.js';
import type { TallyRequest } from './tally.js';

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
  /** In which turns rows leave when a prompt ends; of no account when they leave after every token. Default `'first'`. */
  readonly turns?: 'first' | 'every';
  /** `'banded'`: tokens of a prompt see only some of the rows before them. Default `'dense'`. */
  readonly prefill?: 'dense' | 'banded';
  /** Last queries of a prompt that the selector gets to see. Default 0. */
  readonly observe?: number;
  /** Numbers that follow every row. Default none. */
  readonly tallies?: readonly TallyRequest[];
  /** What it is going to keep of a layer of a first prompt. Without it no memory can be estimated. */
  forecast?(prompt: PromptOutline, layer: number): LayerForecast;
  /** Device memory of its own while a first prompt is read, in bytes. Default 0. */
  scratchBytes?(prompt: PromptOutline): number;
  /** Makes the state for one sequence. @param saved what {@link Saveable.save} gave, for one that comes from a file */
  create(setup: PartSetup, saved?: JsonValue): Selector;
}

/**
 * A selection at work on one sequence, which owns it. Hooks only enqueue work on the stream: no await, no reading of
 * tensors.
 */
export interface Selector extends Saveable {
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
  turnStart?(turn: TurnStart): void;
  /** Replaces attention for this sequence's tokens; must fill `call.out`. */
  attend?(call: AttendCall): void;
  /** Called once a layer has done all tokens of a prompt or later turn. With a budget part, `score` is called instead. */
  prefillEnd(layer: LayerEnd): void;
  /** Called once a layer has done a decode step. */
  decodeEnd?(layer: LayerEnd): void;
  /** What a budget part needs to know; selectors without it keep their own budget beside one. */
  readonly ranking?: Ranking;
  /** State for a fork of the sequence; its cache is shared copy-on-write. */
  fork(): Selector;
  dispose(): void;
}

/** A selection by scores, for budget parts to cut where they like. */
export interface Ranking {
  /** Rows that the selector would keep of this layer by itself, and how many of the newest are always among them. */
  capacity(layer: LayerEnd): { readonly rows: number; readonly window: number };
  /**
   * A score for every row, float32 `[kvHeads, rows]`, owned by the caller; the largest stay, +∞ always does. Undefined:
   * all rows of the layer stay.
   */
  score(layer: LayerEnd): Tensor | undefined;
}

/** Attention of some new tokens of one sequence in one layer. Their keys and values are in the cache already. */
export interface AttendCall {
  readonly layer: number;
  readonly phase: 'prefill' | 'decode';
  /** `[m, heads, headDim]` to be filled. */
  readonly out: Tensor;
  /** float32 `[m, heads]` to be filled with the log of the sum of exp(scaled logits); null when nobody wants it. */
  readonly lse: Tensor | null;
  /** Queries rotated at their original positions, `[m, heads, headDim]`. */
  readonly q: Tensor;
  readonly kv: KvSequence;
  /** Rows in the cache, the m new ones included. */
  readonly rows: number;
  readonly m: number;
  /** Original position of the first query. */
  readonly firstPosition: number;
  readonly scale: number;
  /** Positions that a token sees, its own included; 0: no limit. */
  readonly window: number;
  readonly stream: Stream;
  /**
   * To be called after `lse` was filled, when it is not null: with which queries the rows `[begin, end)` were attended.
   * Calls together cover all rows once; every row below the last m was seen by every query, causally beyond, as far as
   * the window goes.
   * @param window of these rows, in positions, where it is not that of the call
   */
  attended(q: Tensor, begin: number, end: number, window?: number): void;
}
