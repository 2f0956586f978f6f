import {
  AccelError,
  appendBatch,
  generateBatch,
  scoreBatch,
  type Model,
  type Receipt,
  type Sequence,
} from '@accel/core';
import { argumentError } from '../errors.js';
import { digestReceipt } from './digest.js';
import type { Answer, EvalMethod, ExecuteOptions, Executor, Job, Outcome } from './types.js';

/** Options of {@link modelExecutor}. */
export interface ModelExecutorOptions {
  readonly model: Model;
  readonly methods: readonly EvalMethod[];
  /** Prompts that go through the model together. Default 1. */
  readonly batchSize?: number;
  /** Throw when a method never acted or a fallback ran. Default false. */
  readonly strict?: boolean;
}

/**
 * Answers prompts with a model of this process, greedily, a batch at a time: prompts of any length are packed, without
 * padding, and each sequence gets what it would get alone. A batch that does not fit into memory is halved; a prompt that
 * does not fit alone is a failure.
 */
export function modelExecutor(options: ModelExecutorOptions): Executor {
  const { model, methods, batchSize = 1, strict = false } = options;
  if (!Number.isInteger(batchSize) || batchSize < 1) {
    throw argumentError(`The batch size is ${batchSize}; give a whole number of at least 1.`);
  }
  const policies = new Map(methods.map(({ name, policy }) => [name, policy]));

  async function run(jobs: readonly Job[], execute: ExecuteOptions = {}): Promise<Outcome[]> {
    if (jobs.length === 0) return [];
    try {
      const answers = await answer(jobs, execute);
      return answers.map((each) => ({ answer: each }));
    } catch (error) {
      if (!AccelError.isInstance(error) || error.code !== 'ERR_ACCEL_OUT_OF_MEMORY') throw error;
      if (jobs.length === 1) return [{ failure: { code: error.code, message: error.message } }];
    }
    const half = Math.ceil(jobs.length / 2);
    return [
      ...(await run(jobs.slice(0, half), execute)),
      ...(await run(jobs.slice(half), execute)),
    ];
  }

  async function answer(jobs: readonly Job[], execute: ExecuteOptions): Promise<Answer[]> {
    const sequences: Sequence[] = [];
    try {
      for (const { method } of jobs) {
        const policy = policies.get(method);
        if (policy === undefined) throw argumentError(`This run has no method ${method}.`);
        sequences.push(model.sequence({ policy, strict }));
      }
      return await new BatchRun(jobs, sequences, execute).answers();
    } finally {
      for (const sequence of sequences) sequence.dispose();
    }
  }

  return { slots: 1, batchSize, run, [Symbol.asyncDispose]: () => Promise.resolve() };
}

/** What is known of a sequence while its prompt is worked on. */
interface Progress {
  readonly job: Job;
  readonly sequence: Sequence;
  promptTokens: number;
  newTokens: number;
  text: string;
  /** The newest answer's last id. */
  last: number | undefined;
  finish: Answer['finish'];
  /** When the first turn had been read and compressed. */
  prefilled: Receipt | undefined;
  nll: number | undefined;
}

/** A batch of jobs with as many turns each, turn by turn. */
class BatchRun {
  readonly #runs: readonly Progress[];
  readonly #execute: ExecuteOptions;
  readonly #abort: { readonly signal?: AbortSignal };

  constructor(jobs: readonly Job[], sequences: readonly Sequence[], execute: ExecuteOptions) {
    this.#runs = jobs.map((job, i) => ({
      job,
      sequence: sequences[i] as Sequence,
      promptTokens: 0,
      newTokens: 0,
      text: '',
      last: undefined,
      finish: 'length',
      prefilled: undefined,
      nll: undefined,
    }));
    this.#execute = execute;
    this.#abort = execute.signal === undefined ? {} : { signal: execute.signal };
  }

  async answers(): Promise<Answer[]> {
    const turns = this.#runs[0]?.job.prompt.turns.length ?? 0;
    for (let turn = 0; turn < turns; turn++) {
      await this.#read(turn);
      await this.#generate(turn);
    }
    await this.#score();
    return this.#runs.map(toAnswer);
  }

  async #read(turn: number): Promise<void> {
    const items = this.#runs.map((run) => {
      const ids = run.job.prompt.turns[turn]?.ids ?? new Int32Array();
      // An id that ended the answer before waits in the sequence already.
      const drawn = run.finish !== 'length' && ids[0] === run.last;
      const tokens = drawn ? ids.subarray(1) : ids;
      run.promptTokens += tokens.length;
      return { sequence: run.sequence, tokens };
    });
    await appendBatch(items, this.#abort);
    if (turn > 0) return;
    for (const run of this.#runs) {
      // The engine compresses at the end of a prompt; what the cache holds then is what a method is judged by.
      run.prefilled = run.sequence.receipt();
      this.#execute.onPrefilled?.(run.job.id, run.prefilled.seconds.prefill);
    }
  }

  async #generate(turn: number): Promise<void> {
    const prompt = this.#runs[0]?.job.prompt;
    const maxTokens = prompt?.turns[turn]?.answer ?? 0;
    if (prompt === undefined || maxTokens === 0) return;
    for (const run of this.#runs) run.text = '';
    const events = generateBatch(
      this.#runs.map(({ sequence }) => sequence),
      {
        maxTokens,
        temperature: 0,
        stop: prompt.stop,
        stopTokens: prompt.stopIds,
        ...this.#abort,
      },
    );
    for await (const { sequence, id, text, finish } of events) {
      const run = this.#runs[sequence] as Progress;
      run.text += text;
      run.newTokens++;
      if (finish !== undefined) [run.finish, run.last] = [finish, id];
    }
  }

  async #score(): Promise<void> {
    const items = this.#runs.map(({ sequence, job }) => ({
      sequence,
      tokens: job.prompt.target ?? new Int32Array(),
    }));
    if (items.every(({ tokens }) => tokens.length === 0)) return;
    const scores = await scoreBatch(items, this.#abort);
    for (const [i, run] of this.#runs.entries()) {
      const own = scores[i] ?? new Float64Array();
      run.nll = -own.reduce((sum, score) => sum + score, 0);
      run.newTokens = own.length;
    }
  }
}

function toAnswer(run: Progress): Answer {
  const end = run.sequence.receipt();
  return {
    prediction: run.text,
    ...(run.nll !== undefined && { nll: run.nll }),
    promptTokens: run.promptTokens,
    newTokens: run.newTokens,
    finish: run.finish,
    prefillSeconds: end.seconds.prefill,
    decodeTokens: end.tokens.decode,
    decodeSeconds: end.seconds.decode,
    receipt: digestReceipt(run.prefilled ?? end, end),
  };
}
