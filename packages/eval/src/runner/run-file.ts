import type { PolicyJson } from '@accel/core';
import type { Metric } from '../benchmark/types.js';
import type { Mode } from '../prompt/modes.js';
import type { RunSettings } from './fingerprint.js';

/** The exact prompt of the first sample of a task, so that a missing template or a second BOS is seen at once. */
export interface PromptSpecimen {
  /** Id of the task, with its length. */
  readonly task: string;
  readonly mode: Mode;
  readonly tokens: number;
  /** First and last characters of what is fed before the answer, all turns joined. */
  readonly head: string;
  readonly tail: string;
  /** First ids. */
  readonly ids: readonly number[];
  readonly stopIds: readonly number[];
  readonly stop: readonly string[];
}

/** The machine. */
export interface Hardware {
  readonly host: string;
  readonly platform: string;
  readonly cpu: string;
  readonly cores: number;
  readonly memoryBytes: number;
  /** Device id and name of each worker, e.g. `cuda:0 NVIDIA H200`. */
  readonly devices: readonly string[];
}

/** One call of `runEval` on the run's folder. */
export interface RunCall {
  /** ISO 8601. */
  readonly started: string;
  /** Null while it runs, and after it was killed. */
  readonly finished: string | null;
  readonly seconds: number;
  /** Records that were there at the start. */
  readonly resumed: number;
  readonly hardware: Hardware;
  readonly versions: Readonly<Record<string, string>>;
  readonly batchSize: number;
  /** How prompts were answered: `model`, `processes`, `queue`, `endpoint`. */
  readonly executor: string;
  /** The command line, if there was one. */
  readonly command?: readonly string[] | undefined;
}

/** `run.json`: everything needed to know what the numbers are numbers of, and to get them again. */
export interface RunFile {
  readonly format: 'accel-eval-run/2';
  readonly settings: RunSettings;
  /** The benchmark config with defaults filled in. */
  readonly config: unknown;
  readonly seeds: Readonly<Record<string, number>>;
  readonly modes: readonly Mode[];
  readonly methods: readonly {
    readonly name: string;
    readonly digest: string;
    readonly policy: PolicyJson;
  }[];
  /** Every task at every length, in the order of results. */
  readonly tasks: readonly {
    readonly id: string;
    readonly name: string;
    readonly length: number | null;
    readonly metric: Metric;
    readonly maxNewTokens: number;
    readonly samples: number;
    /** Digest of the data of this task alone. */
    readonly data?: string | undefined;
  }[];
  readonly strict: boolean;
  readonly prompts: readonly PromptSpecimen[];
  readonly calls: readonly RunCall[];
  /** The achieved cache of every record, in order; empty until the run is complete. */
  readonly achieved: readonly {
    readonly id: string;
    readonly promptTokens: number;
    readonly rowsStored: number;
    readonly kvBytes: number;
  }[];
}
