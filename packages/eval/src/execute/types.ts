import type { Policy } from '@accel/core';

/** What is fed to a sequence at once. The engine compresses at the end of it. */
export interface PromptTurn {
  /** The exact text, special tokens of a chat template included (a beginning-of-text token of the tokenizer is not). */
  readonly text: string;
  readonly ids: Int32Array;
  /** New tokens to generate behind it, at most; 0: the next turn follows at once. */
  readonly answer: number;
  /** For servers that take chats: what the user says in this turn; absent in raw prompts. */
  readonly user?: string;
  /** Begins the assistant's answer; part of `text`. */
  readonly answerPrefix?: string;
}

/** All that is needed to answer one sample, whoever does it. */
export interface Prompt {
  /** The last turn's answer is the prediction. */
  readonly turns: readonly PromptTurn[];
  /** Ids that end an answer: the model's end-of-text ids, and those of its chat template. */
  readonly stopIds: readonly number[];
  /** Texts that end an answer. */
  readonly stop: readonly string[];
  /** Tokens whose likelihood after the turns is asked for; nothing is generated then. */
  readonly target?: Int32Array;
}

/** A prompt under a method: the work behind one record. */
export interface Job {
  /** The record's id. */
  readonly id: string;
  /** Name of one of the run's methods. */
  readonly method: string;
  readonly prompt: Prompt;
}

/** A method as it is evaluated: a policy under the name that results carry. */
export interface EvalMethod {
  readonly name: string;
  readonly policy: Policy;
}

/** What the cache looked like, taken from the engine's receipt. */
export interface ReceiptDigest {
  /** Rows that went in during prefill, mean over layers and kv heads. */
  readonly rowsIn: number;
  /** Rows stored when prefill had ended, mean over layers and kv heads: the achieved cache size. */
  readonly rowsStored: number;
  /** The same for every layer, mean over its kv heads: what was evicted where. */
  readonly layerRows: readonly number[];
  /** Bytes the cache held when prefill had ended: pages in use, rows × row size, and rows × row size uncompressed. */
  readonly kv: {
    readonly measuredBytes: number;
    readonly arithmeticBytes: number;
    readonly fullBytes: number;
  };
  /** With a sparse prefill: blocks computed of those up to the diagonal, mean over heads and over layers that chose some. */
  readonly density?: number | undefined;
  /** How often each part of the policy acted, by `<id>.<slot>`. */
  readonly acted: Readonly<Record<string, number>>;
  readonly fallbacks: readonly string[];
  /** Kernel name → times run for this record. */
  readonly kernels: Readonly<Record<string, number>>;
}

/** What came of a job. */
export interface Answer {
  /** Text of the last turn's answer; '' for a target. */
  readonly prediction: string;
  /** Sum over the target's tokens, in nats. */
  readonly nll?: number | undefined;
  /** Tokens fed, special tokens included, without answers and target. */
  readonly promptTokens: number;
  /** Tokens of all answers, or of the target. */
  readonly newTokens: number;
  readonly finish: 'eos' | 'stop' | 'length';
  readonly prefillSeconds: number;
  /** Decode steps after the first token of an answer, and the time they took. */
  readonly decodeTokens: number;
  readonly decodeSeconds: number;
  /** Absent where the engine is not ours (`--endpoint`). */
  readonly receipt?: ReceiptDigest | undefined;
}

/** Why a job has no answer: it goes into the record and the table shows a dash. */
export interface Failure {
  /** `AccelError.code`, or `ERR_ACCEL_INTERNAL`. */
  readonly code: string;
  readonly message: string;
}

/** An answer, or why there is none. */
export type Outcome = { readonly answer: Answer } | { readonly failure: Failure };

/** What an executor tells while it works. */
export interface ExecuteOptions {
  readonly signal?: AbortSignal | undefined;
  /** The prompt of this job has been read. Not every executor can tell. */
  readonly onPrefilled?: ((id: string, seconds: number) => void) | undefined;
}

/**
 * Where prompts are answered: this process's model, other processes, other machines, a server.
 */
export interface Executor extends AsyncDisposable {
  /** Batches that may be under way at the same time. */
  readonly slots: number;
  /** Jobs that are worth answering together. */
  readonly batchSize: number;
  /**
   * Answers jobs of one method, stop and answer limit. One outcome for each job, in order. What would fail again for every
   * job (a policy that never acted in strict mode, an abort, a model that does not load) throws; what concerns one job (out
   * of memory, a worker that died too often) is its failure.
   */
  run(jobs: readonly Job[], options?: ExecuteOptions): Promise<Outcome[]>;
}
