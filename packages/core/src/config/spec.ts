/** Float formats a checkpoint can be stored and computed in. */
export type FloatDType = 'float32' | 'bfloat16' | 'float16';

/** Model architectures that can be loaded. */
export type Architecture = 'llama' | 'mistral' | 'qwen2' | 'qwen3' | 'glm' | 'glm4' | 'chatglm';

/** Layers whose tokens see the newest positions only. */
export interface SlidingWindow {
  /** Positions that a token sees, its own included: j with 0 ≤ i − j < tokens. */
  readonly tokens: number;
  /** First layer with the window; those before it see everything. */
  readonly fromLayer: number;
}

/** How rotary frequencies are stretched for contexts longer than the model was first trained for. */
export type RopeScaling =
  | { readonly kind: 'default' }
  /** All frequencies divided by `factor`. */
  | { readonly kind: 'linear'; readonly factor: number }
  /** NTK-aware: the base grows with the number of positions seen (see {@link ropeFrequencies}). */
  | { readonly kind: 'dynamic'; readonly factor: number; readonly originalContext: number }
  /** Llama 3.1: low frequencies divided by `factor`, high ones kept, a ramp in between. */
  | {
      readonly kind: 'llama3';
      readonly factor: number;
      readonly lowFrequencyFactor: number;
      readonly highFrequencyFactor: number;
      readonly originalContext: number;
    }
  /** Each frequency divided by a factor of its own, highest frequency first: how GGUF files hold Llama 3.1's scaling. */
  | { readonly kind: 'factors'; readonly factors: readonly number[] }
  /** YaRN (arXiv 2309.00071): a ramp over dimensions, and a factor on cos and sin. */
  | {
      readonly kind: 'yarn';
      readonly factor: number;
      readonly originalContext: number;
      readonly betaFast: number;
      readonly betaSlow: number;
      /** Factor on cos and sin. */
      readonly attentionFactor: number;
      /** Round the ramp's ends to whole dimensions. */
      readonly truncate: boolean;
    };

/** What a decoder-only transformer needs to be run: sizes, constants and special ids, independent of the file format. */
export interface ModelSpec {
  readonly architecture: Architecture;
  /** A name for reports: what the config calls itself, or the folder. */
  readonly name: string;
  /** Decoder layers. */
  readonly layers: number;
  /** Query heads. */
  readonly heads: number;
  /** Key/value heads; query head h reads kv head ⌊h · kvHeads / heads⌋. */
  readonly kvHeads: number;
  readonly headDim: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly vocabSize: number;
  /** Positions the model was made for, rotary scaling included. */
  readonly contextLength: number;
  readonly bosTokenId?: number;
  /** Ids that end a generation, from config and generation config. */
  readonly eosTokenIds: readonly number[];
  /** Base of the rotary frequencies. */
  readonly ropeTheta: number;
  readonly rope: RopeScaling;
  /** Leading dimensions of a head that are rotated; even. */
  readonly rotaryDim: number;
  /** Rotated pairs are (2c, 2c+1) instead of (c, c + rotaryDim/2). */
  readonly ropeInterleaved: boolean;
  /** Epsilon of the RMS norms. */
  readonly normEps: number;
  /** Factor on attention logits, normally 1/√headDim. */
  readonly attentionScale: number;
  /** Without one, tokens see all positions before them. */
  readonly slidingWindow?: SlidingWindow;
  /** The output projection is the embedding matrix. */
  readonly tiedEmbeddings: boolean;
  /** Format the weights are stored in according to the config. */
  readonly dtype: FloatDType;
}

/** Positions that a token of a layer sees, its own included; 0 when there is no limit. */
export function windowOf(spec: Pick<ModelSpec, 'slidingWindow'>, layer: number): number {
  const { slidingWindow } = spec;
  return slidingWindow === undefined || layer < slidingWindow.fromLayer ? 0 : slidingWindow.tokens;
}
