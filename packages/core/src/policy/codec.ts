import type { DType, KvArg, KvEncodeRules, KvItems, Stream, Tensor } from '@accel/kernels';
import type { ModelSpec } from '../config/spec.js';
import type { Part } from './part.js';

/**
 * What happens when a row is evicted or changed that a codec has packed already: nothing may (`'forbidden'`), only rows still
 * in the residual leave (`'residualOnly'`), whole groups leave (`'wholeGroups'`), or the group is decoded and encoded again
 * (`'reencode'`).
 */
export type PackedRows = 'forbidden' | 'residualOnly' | 'wholeGroups' | 'reencode';

/** A part that decides the format of stored rows. */
export interface CodecPart<Id extends string = string> extends Part<Id, 'codec', never, never> {
  readonly packedRows: PackedRows;
  /** Newest rows kept unpacked. */
  readonly residual: number;
  /** The format of a sequence's cache. @throws AccelError `ERR_ACCEL_POLICY` if the model's shape does not allow it */
  format(setup: CodecSetup): RowFormat;
}

/** What a codec is made for. */
export interface CodecSetup {
  readonly spec: ModelSpec;
  readonly dtype: DType;
  /** Channels of encoded keys: the head dimension, or what a channels part keeps of it. */
  readonly channels: number;
  /** Bytes in front of a head's encoded keys in which a channels part lists the channels. */
  readonly header: number;
  /** Newest rows whose keys are not to be encoded, because a channels part wants them whole; 0 without one. */
  readonly recent: number;
}

/**
 * How the oldest rows of a cache are stored, written and read. It has no state: what was encoded is in the pages. One call may
 * serve all sequences whose formats have equal keys. Items may come from a file, so that reading them must be safe whatever
 * they hold.
 */
export interface RowFormat {
  readonly key: string;
  /** Layout of encoded keys and values; without one they stay plain. */
  readonly items: { readonly keys?: KvItems; readonly values?: KvItems };
  /** Which rows are encoded. */
  readonly rules: KvEncodeRules;
  /** `everyStep`: at the end of prompts and after every token. `firstPrompt`: at the end of the first prompt only. */
  readonly encodes: 'everyStep' | 'firstPrompt';
  /** Rows up to which encoding nothing is right. */
  readonly idleRows: number;
  /** Its GPU kernels that run only when a faster one could not, by name, and why that is: receipts list them. */
  readonly slowKernels?: Readonly<Record<string, string>>;
  /** Enqueues the op that encodes the rows which `kv` has in both forms. */
  encode(call: EncodeCall): void;
  /** Enqueues causal attention over encoded and plain rows. */
  attend(call: EncodedAttendCall): void;
}

/** Rows to be encoded, of one or more sequences: in a decode step of all layers of each, otherwise of one. */
export interface EncodeCall {
  readonly stream: Stream;
  readonly kv: KvArg;
  /** No head has more keys to encode. In decode steps nearly always the same number, so that a step can be replayed. */
  readonly keys: number;
  /** The same of values. */
  readonly values: number;
}

/** Attention of the newest tokens of one or more sequences, as `ops.attention`. */
export interface EncodedAttendCall {
  readonly stream: Stream;
  /** `[T, heads, headDim]` */
  readonly out: Tensor;
  /** float32 `[T, heads]` or null */
  readonly lse: Tensor | null;
  /** `[T, heads, headDim]` */
  readonly q: Tensor;
  readonly kv: KvArg;
  /** New tokens of each sequence. */
  readonly lens: Int32Array;
  readonly scale: number;
  /** Positions that a token sees, its own included; 0: no limit. */
  readonly window: number;
}
