import type { Model, Policy } from '@accel/core';
import type { BenchmarkConfig } from '../config.js';
import type { RulerSources } from '../ruler/types.js';
import type { EvalSummary } from './summary.js';

/** A method as it is evaluated: a policy under the name that results carry. */
export interface EvalMethod {
  readonly name: string;
  readonly policy: Policy;
}

/** Options of {@link runEval}; a {@link BenchmarkConfig} can be spread into them. */
export interface EvalOptions extends Partial<BenchmarkConfig> {
  readonly model: Model;
  /** In the order they run for each prompt; names must differ. */
  readonly methods: readonly EvalMethod[];
  /** Only the first n samples of each task and length. Default, or −1: all. */
  readonly limit?: number;
  /** Folder for `records.jsonl`, `summary.json` and `summary.csv`. An existing run in it is continued. Default: no files. */
  readonly output?: string;
  /** Passed to every sequence: throw when a method never acted or a fallback ran. Default false. */
  readonly strict?: boolean;
  /** Texts to build prompts from. Default: read by the config's paths. */
  readonly sources?: RulerSources;
  /** Stops with ERR_ACCEL_ABORTED; finished records stay on disk. */
  readonly signal?: AbortSignal;
}

/** What the cache looked like, taken from the engine's receipt. */
export interface ReceiptDigest {
  /** Rows that went in during prefill, mean over layers and kv heads. */
  readonly rowsIn: number;
  /** Rows stored when prefill had ended, mean over layers and kv heads. */
  readonly rowsStored: number;
  /** Bytes the cache held when prefill had ended: pages in use, rows × row size, and rows × row size uncompressed. */
  readonly kv: {
    readonly measuredBytes: number;
    readonly arithmeticBytes: number;
    readonly fullBytes: number;
  };
  /** With a sparse prefill: blocks computed of those up to the diagonal, mean over heads and over layers that chose some. */
  readonly density?: number | undefined;
  readonly fallbacks: readonly string[];
  /** Kernel name → times run for this record. */
  readonly kernels: Readonly<Record<string, number>>;
}

/** One prompt under one method: a line of `records.jsonl`. */
export interface EvalRecord {
  /** `<task>_<length>/<sample>/<method>`. */
  readonly id: string;
  readonly task: string;
  readonly length: number;
  readonly sample: number;
  readonly method: string;
  /** Digest of the method's parts and options. */
  readonly policy: string;
  /** Prompt tokens with special tokens. */
  readonly promptTokens: number;
  readonly newTokens: number;
  readonly prediction: string;
  readonly references: readonly string[];
  /** 0 to 100. */
  readonly score: number;
  readonly prefillSeconds: number;
  /** `null` when nothing was decoded after the first token. */
  readonly decodeTokensPerSecond: number | null;
  readonly decodeSeconds: number;
  readonly decodeTokens: number;
  readonly receipt: ReceiptDigest;
}

/** How far a run is. `tokens` weighs records by their length, for an estimate of the time left. */
export interface EvalProgress {
  readonly done: number;
  readonly total: number;
  readonly tokensDone: number;
  readonly tokensTotal: number;
}

/** What happens during a run, in order. */
export type EvalEvent =
  | { readonly type: 'start'; readonly resumed: number; readonly progress: EvalProgress }
  | {
      readonly type: 'prompt';
      readonly id: string;
      readonly task: string;
      readonly length: number;
      readonly sample: number;
      readonly method: string;
      readonly promptTokens: number;
    }
  | { readonly type: 'prefilled'; readonly id: string; readonly seconds: number }
  | { readonly type: 'record'; readonly record: EvalRecord; readonly progress: EvalProgress }
  | { readonly type: 'end'; readonly summary: EvalSummary };
