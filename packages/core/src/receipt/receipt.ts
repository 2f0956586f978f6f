import type { PolicyJson } from '../policy/compose.js';
import type { Slot } from '../policy/part.js';

/** What a part did to a sequence. */
export interface PartReceipt {
  readonly id: string;
  readonly slot: Slot;
  /** Times, over layers and steps, that it changed anything. */
  readonly acted: number;
  /** Rows up to which doing nothing is right, normally its budget. Default 0: it must act on any prompt. */
  readonly idleRows?: number;
  /** It acts while decoding only, so that it may idle until a token was decoded. */
  readonly when?: 'decode';
  /** What it has to say about its choices, without repeats. */
  readonly notes: readonly string[];
}

/** The cache of a layer; one number per kv head. */
export interface LayerReceipt {
  /** Rows that went in, all turns and steps together. */
  readonly rowsIn: readonly number[];
  /** Rows held now. */
  readonly rowsKept: readonly number[];
  /** Of these, rows whose keys, or values, a codec or a channels part holds in a format of its own. */
  readonly encodedKeys?: readonly number[];
  readonly encodedValues?: readonly number[];
}

/** What a sparse prefill did in a layer, over all prompts. */
export interface BlockLayerReceipt {
  /** Tokens of prompts whose attention was computed in chosen blocks, and in all of them. */
  readonly sparseTokens: number;
  readonly denseTokens: number;
  /** Of the former, for each query head: blocks computed of those up to the diagonal, 0 to 1. */
  readonly density: readonly number[];
  /** What the part has to tell, by name, for each query head: `recall` is the share of attention it believes to be in the blocks. */
  readonly figures: Readonly<Record<string, readonly number[]>>;
}

/** What a sparse prefill did; prompts since the sequence was created or restored. */
export interface PrefillReceipt {
  /** Device time spent on choosing blocks, all layers together. */
  readonly estimateSeconds: number;
  readonly layers: readonly BlockLayerReceipt[];
  /** Why attention was dense, and for how many tokens, all layers together. */
  readonly dense: Readonly<Record<string, number>>;
}

/** An account of what was done to a sequence: what was kept, what it took, and what did not go as configured. */
export interface Receipt {
  readonly policy: PolicyJson;
  readonly parts: readonly PartReceipt[];
  readonly layers: readonly LayerReceipt[];
  /** Present when the policy has a prefill part. */
  readonly prefill?: PrefillReceipt;
  readonly kv: {
    /** Bytes of the pages held. */
    readonly measuredBytes: number;
    /** Rows held × bytes of a row in its format. */
    readonly arithmeticBytes: number;
    /** Keys and values of every position, uncompressed. */
    readonly fullBytes: number;
  };
  /** Tokens that went through the model. */
  readonly tokens: { readonly prefill: number; readonly decode: number };
  readonly seconds: { readonly prefill: number; readonly decode: number };
  /** Kernel name → times run on the model's stream since the sequence was created. */
  readonly kernels: Readonly<Record<string, number>>;
  /** Places where something slower or less exact ran than what was configured. */
  readonly fallbacks: readonly string[];
}
