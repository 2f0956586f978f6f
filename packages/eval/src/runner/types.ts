import type { Model } from '@accel/core';
import type { Benchmark } from '../benchmark/types.js';
import type { BenchmarkConfig } from '../config/types.js';
import type { EvalMethod, Executor } from '../execute/types.js';
import type { Mode } from '../prompt/modes.js';
import type { EvalSummary } from '../report/summary.js';
import type { RunRecord } from './records.js';
import type { Subject } from './subject.js';

/** Options of {@link runEval}, whoever answers. */
interface RunOptions {
  /** What is asked: of `readBenchmarkConfig`, or `rulerConfig({ … })` and its neighbours. */
  readonly config: BenchmarkConfig;
  /** Names must differ. */
  readonly methods: readonly EvalMethod[];
  /** Only the first n samples of each task and length. Default, or −1: all. */
  readonly limit?: number;
  /** Longer prompts are cut in the middle. Default: what the model's window leaves beside the answer. */
  readonly maxLength?: number;
  /** Folder of the run. An existing run in it is continued. Default: no files. */
  readonly output?: string;
  /** Throw when a method never acted, on a prompt or in the whole run, or when a fallback ran. Default false. */
  readonly strict?: boolean;
  /** The benchmark, opened already; prompts are then made on this thread. Default: opened from the config. */
  readonly benchmark?: Benchmark;
  /** The command line, for `run.json`. */
  readonly command?: readonly string[];
  /** Stops with ERR_ACCEL_ABORTED; finished records stay on disk. */
  readonly signal?: AbortSignal;
}

/** Options of {@link runEval}: a model of this process answers, or an executor does. */
export type EvalOptions = RunOptions &
  (
    | {
        readonly model: Model;
        /** Prompts that go through the model together. Default 1. */
        readonly batchSize?: number;
      }
    | {
        /** Disposed by the caller. */
        readonly executor: Executor;
        /** Whose answers these are. */
        readonly subject: Subject;
      }
  );

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
      /** A batch begins. */
      readonly type: 'batch';
      readonly task: string;
      readonly length: number | null;
      readonly mode: Mode;
      readonly method: string;
      /** Samples in it. */
      readonly samples: readonly number[];
      readonly promptTokens: number;
    }
  | { readonly type: 'prefilled'; readonly id: string; readonly seconds: number }
  | { readonly type: 'record'; readonly record: RunRecord; readonly progress: EvalProgress }
  | { readonly type: 'end'; readonly summary: EvalSummary };
