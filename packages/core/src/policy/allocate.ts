import type { LayerForecast, PromptOutline, ShareForecast } from './forecast.js';
import type { LayerEnd } from './layer-end.js';
import type { JsonValue, Part, Signal } from './part.js';
import type { Saveable } from './saved.js';
import type { PartSetup } from './setup.js';

/** A part that gives every layer its share of rows. It needs a selector with a ranking to have an effect. */
export interface BudgetPart<Id extends string = string, N extends Signal = Signal> extends Part<
  Id,
  'budget',
  N,
  never
> {
  /** Last queries of a prompt that the allocator gets to see. Default 0. */
  readonly observe?: number;
  /**
   * What it is going to give the layers of a first prompt. Without it no memory can be estimated.
   * @param capacities of each layer, as the selection tells them
   */
  forecast?(
    prompt: PromptOutline,
    capacities: readonly NonNullable<LayerForecast['capacity']>[],
  ): ShareForecast;
  /** Makes the state for one sequence. @param saved what {@link Saveable.save} gave, for one that comes from a file */
  create(setup: PartSetup, saved?: JsonValue): Allocator;
}

/** What a layer may hold. */
export interface Allotment {
  /** Rows that stay at the end of the prompt, in every head; more than there are means all. */
  readonly rows: number;
  /** Rows that may be held from then on, for selectors that evict while decoding. Default: `rows`. */
  readonly decode?: number;
}

/** The end of a layer, as a budget part sees it. */
export interface AllocatorLayer extends LayerEnd {
  /** Rows that the selector would keep by itself: the average to share out. */
  readonly average: number;
  /** The newest rows that stay in any case. */
  readonly window: number;
}

/** An allocation at work on one sequence, which owns it. Called for turns in which the selector has scores. */
export interface Allocator extends Saveable {
  /**
   * Called once a layer has done all tokens of a prompt or later turn; only enqueues.
   * @returns the layer's share, or undefined when `settle` will say
   */
  prefillEnd(layer: AllocatorLayer): Allotment | undefined;
  /**
   * Called when the device has finished a layer whose `prefillEnd` returned undefined, in order; the next layer may be running. May await what it
   * reads. A layer can be cut more than once, and rows that left do not come back.
   * @returns the shares of layers 0 to `layer`, as far as they changed
   */
  settle?(layer: number): Promise<ReadonlyMap<number, Allotment>>;
  /** State for a fork of the sequence. */
  fork(): Allocator;
  dispose(): void;
}
