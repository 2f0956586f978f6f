import type { Tensor } from '@accel/kernels';
import type { LayerEnd } from './layer-end.js';
import type { JsonValue, Part, Signal } from './part.js';
import type { Saveable } from './saved.js';
import type { PartSetup } from './setup.js';
import type { TallyRequest } from './tally.js';

/** A part that folds evicted values into kept ones. */
export interface MergePart<Id extends string = string, N extends Signal = Signal> extends Part<
  Id,
  'merge',
  N,
  never
> {
  /** Newest rows that values may be folded into. */
  readonly recent: number;
  /** When it works: on rows that leave one by one while decoding, or once on the prompt. */
  readonly at: 'decode' | 'prompt';
  /** Last queries of a prompt that the merger gets to see. Default 0. */
  readonly observe?: number;
  /** Numbers that follow every row. Default none. */
  readonly tallies?: readonly TallyRequest[];
  /** Makes the state for one sequence. @param saved what {@link Saveable.save} gave, for one that comes from a file */
  create(setup: PartSetup, saved?: JsonValue): Merger;
}

/** Merging at work on one sequence, which owns it. Hooks only enqueue. */
export interface Merger extends Saveable {
  /** Called before the selector, once a layer has done all tokens of a prompt or later turn. */
  prefillEnd?(layer: LayerEnd): void;
  /** Called in a decode step before a row of each head leaves: its number, or int32 `[kvHeads]` with one for each head. */
  merge?(layer: LayerEnd, victim: number | Tensor): void;
  /** State for a fork of the sequence. */
  fork(): Merger;
  dispose(): void;
}
