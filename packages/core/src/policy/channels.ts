import type { DType, KvArg, Stream } from '@accel/kernels';
import type { ModelSpec } from '../config/spec.js';
import type { PackedRows, RowFormat } from './codec.js';
import type { LayerEnd } from './layer-end.js';
import type { JsonValue, Part, Signal } from './part.js';
import type { Saveable } from './saved.js';
import type { PartSetup } from './setup.js';

/** A part that drops channels of stored keys. */
export interface ChannelsPart<Id extends string = string, N extends Signal = Signal> extends Part<
  Id,
  'channels',
  N,
  never
> {
  /** Both channels of a rotated pair go together, so keys can still be rotated afterwards. */
  readonly pairAligned: boolean;
  /** What happens to rows that have lost channels when they should be evicted; see {@link PackedRows}. */
  readonly packedRows: PackedRows;
  /** Last queries of a prompt that it gets to see. */
  readonly observe: number;
  /** Newest rows whose keys keep all channels. A codec beside this part leaves them plain. */
  readonly recent: number;
  /** Channels that keys keep. */
  kept(spec: ModelSpec): number;
  /** Bytes that the list of kept channels takes in front of a head's encoded keys, a multiple of 16. */
  header(spec: ModelSpec): number;
  /** How keys with fewer channels are stored when the policy has no codec. */
  format(setup: { readonly spec: ModelSpec; readonly dtype: DType }): RowFormat;
  /** Makes the state for one sequence. @param saved what {@link Saveable.save} gave, for one that comes from a file */
  create(setup: PartSetup, saved?: JsonValue): Channels;
}

/** A choice of channels at work on one sequence, which owns it. Hooks only enqueue. Channels are chosen once, in the first prompt. */
export interface Channels extends Saveable {
  /** The first prompt is done in a layer; keys may leave before {@link choose}, the observed queries are valid now only. */
  observe(end: LayerEnd): void;
  /** Writes the channels that stay into the headers of a layer's encoded keys. */
  choose(call: ChooseCall): void;
  /**
   * The header of a head's encoded keys comes from a file: what is wrong with it, in words, or undefined if {@link choose} could
   * have written it. Ops trust headers, so without this method a sequence cannot be saved.
   */
  verify?(header: Uint8Array): string | undefined;
  fork(): Channels;
  dispose(): void;
}

/** A layer whose keys are about to lose channels. */
export interface ChooseCall {
  readonly layer: number;
  readonly stream: Stream;
  readonly kv: KvArg;
  /** The oldest rows, whose keys count in the choice; all are still plain. */
  readonly rows: number;
}
