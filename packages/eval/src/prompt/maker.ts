import { setImmediate } from 'node:timers/promises';
import type { Benchmark, EvalSample, EvalTask } from '../benchmark/types.js';
import { argumentError } from '../errors.js';
import type { Prompt } from '../execute/types.js';
import {
  metersOf,
  PromptFormat,
  type Meters,
  type PromptModel,
  type PromptOptions,
} from './format.js';
import type { Mode } from './modes.js';

/** Which sample is wanted, in which modes. */
export interface PromptRequest {
  /** Id of the task. */
  readonly task: string;
  readonly sample: number;
  readonly modes: readonly Mode[];
}

/** A sample with its prompts, ready to be answered. */
export interface Prepared {
  /** Without its text, which is in the prompts: what scoring needs. */
  readonly sample: EvalSample;
  /** One for each mode that was asked for, in that order. */
  readonly prompts: readonly Prompt[];
  /** Tokens of the prompt before it was cut in the middle, if it was. */
  readonly cutFrom?: number | undefined;
}

/** Makes prompts, here or on another thread. */
export interface PromptSource extends AsyncDisposable {
  /**
   * @param request of a task's samples the later ones after the earlier ones
   * @returns undefined when the task has fewer samples
   */
  prepare(request: PromptRequest): Promise<Prepared | undefined>;
}

interface OpenTask {
  readonly task: EvalTask;
  readonly format: PromptFormat;
  readonly samples: Iterator<EvalSample | undefined, void>;
  drawn: EvalSample | undefined;
}

/** Makes prompts on this thread, with a turn of the event loop after each piece of work. */
export class PromptMaker implements PromptSource {
  readonly #benchmark: Benchmark;
  readonly #model: PromptModel;
  readonly #options: PromptOptions;
  readonly #meters: Meters;
  #open: OpenTask | undefined;
  /** Requests are worked on one after another: a task's samples come out of one stream. */
  #queue: Promise<unknown> = Promise.resolve();

  constructor(benchmark: Benchmark, model: PromptModel, options: PromptOptions) {
    this.#benchmark = benchmark;
    this.#model = model;
    this.#options = options;
    this.#meters = metersOf(model);
  }

  prepare(request: PromptRequest): Promise<Prepared | undefined> {
    const made = this.#queue.then(() => this.#prepare(request));
    this.#queue = made.catch(() => undefined);
    return made;
  }

  async #prepare({ task, sample: wanted, modes }: PromptRequest): Promise<Prepared | undefined> {
    const open = this.#task(task);
    while ((open.drawn?.index ?? -1) < wanted) {
      const next = open.samples.next();
      if (next.done === true) return undefined;
      open.drawn = next.value ?? open.drawn;
      await setImmediate();
    }
    const { drawn: sample } = open;
    if (sample?.index !== wanted) {
      throw argumentError(
        `Sample ${wanted} of ${task} was asked for after sample ${sample?.index ?? 0}.`,
      );
    }
    const made = modes.map((mode) => open.format.make(sample, mode));
    return {
      sample: withoutText(sample),
      prompts: made.map(({ prompt }) => prompt),
      cutFrom: made[0]?.cutFrom,
    };
  }

  /** The stream of a task's samples. One is open at a time: tasks come one after another. */
  #task(id: string): OpenTask {
    if (this.#open?.task.id === id) return this.#open;
    const task = this.#benchmark.tasks.find((candidate) => candidate.id === id);
    if (task === undefined) throw argumentError(`The benchmark has no task ${id}.`);
    const format = new PromptFormat(this.#model, this.#options, task, this.#meters);
    const samples = this.#benchmark.samples(task, format.meter);
    this.#open = { task, format, samples, drawn: undefined };
    return this.#open;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#queue;
  }
}

function withoutText(sample: EvalSample): EvalSample {
  return sample.kind === 'question'
    ? { ...sample, context: '' }
    : { ...sample, context: new Int32Array(0) };
}
