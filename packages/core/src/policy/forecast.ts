import type { DType } from '@accel/kernels';
import type { ModelSpec } from '../config/spec.js';
import type { Allotment } from './allocate.js';

/** A first prompt that has not been read yet, as a part is asked about it. */
export interface PromptOutline {
  readonly spec: ModelSpec;
  readonly dtype: DType;
  readonly tokens: number;
  /** Most tokens that go through a layer together. */
  readonly chunkTokens: number;
}

/** A choice of blocks that will be made. */
export interface ChoiceOutline {
  readonly spec: ModelSpec;
  readonly dtype: DType;
  /** Queries. */
  readonly m: number;
  /** Rows in the cache, theirs included. */
  readonly rows: number;
}

/** What a selection is going to keep of one layer, the same in every head. Rows may be more than there are: then all stay. */
export interface LayerForecast {
  /** Rows that stay when the prompt ends. */
  readonly rows: number;
  /** First of the rows that leave without the others being moved. Default: those that stay are gathered into fresh pages. */
  readonly dropAt?: number;
  /** What a budget part is told, of a selection that ranks rows: its average, and the newest rows that stay in any case. */
  readonly capacity?: { readonly rows: number; readonly window: number };
  /** The most rows while decoding, the newest `recent` always among them. Default: one more with every token. */
  readonly decode?: { readonly rows: number; readonly recent: number };
}

/**
 * What a budget part is going to give the layers, as far as it can be told without the prompt: a part that looks at the
 * attention answers for a prompt to which all layers are alike.
 */
export interface ShareForecast {
  /** It decides on a layer when the next one is in the cache already, as one with `settle` does. */
  readonly later: boolean;
  /** For each layer, the shares of it and those before it once it has been decided on. */
  readonly steps: readonly (readonly Allotment[])[];
}
