import { AccelError } from '@accel/core';
import type { Benchmark, EvalTask } from '../benchmark/types.js';
import type { BenchmarkConfig } from '../config/types.js';
import { argumentError, configError } from '../errors.js';
import type { EvalMethod } from '../execute/types.js';
import type { Mode } from '../prompt/modes.js';
import type { Subject } from './subject.js';

/** One record that a run shall have. */
export interface PlanItem {
  readonly id: string;
  readonly task: EvalTask;
  readonly sample: number;
  readonly mode: Mode;
  readonly method: string;
}

/** What a run will do, checked and with defaults filled in. */
export interface Plan {
  /** Length-major, as in the seed toolkit. */
  readonly tasks: readonly EvalTask[];
  readonly modes: readonly Mode[];
  readonly methods: readonly EvalMethod[];
  /** Samples of a task. */
  samplesOf(task: EvalTask): number;
  /** Every record, in the order of results: by task, method, mode, sample. */
  readonly items: readonly PlanItem[];
}

/** What a plan is made from. */
export interface PlanOptions {
  readonly config: BenchmarkConfig;
  readonly methods: readonly EvalMethod[];
  readonly limit?: number | undefined;
}

/** Checks what shall be run before anything runs. @throws AccelError */
export function makePlan(options: PlanOptions, benchmark: Benchmark, subject: Subject): Plan {
  const { config, methods, limit = -1 } = options;
  const { tasks } = benchmark;
  const { modes } = config;
  checkMethods(methods);
  if (tasks.length === 0 || modes.length === 0) {
    throw configError('There is nothing to evaluate: give at least one task, length and mode.');
  }
  checkLengths(tasks, subject);
  if (config.template === 'model' && !subject.tokenizer.hasChatTemplate) {
    throw configError(
      `${subject.spec.name} has no chat template; set template to auto or NULL to prompt it raw.`,
    );
  }
  const wanted = sampleCount(config.samples, limit);
  const samplesOf = ({ available }: EvalTask): number => Math.min(wanted, available ?? wanted);
  const items = tasks.flatMap((task) =>
    methods.flatMap(({ name: method }) =>
      modes.flatMap((mode) =>
        Array.from({ length: samplesOf(task) }, (_, sample) => ({
          id: `${task.id}/${sample}/${mode}/${method}`,
          task,
          sample,
          mode,
          method,
        })),
      ),
    ),
  );
  return { tasks, modes, methods, samplesOf, items };
}

function checkLengths(tasks: readonly EvalTask[], { spec }: Subject): void {
  const lengths = [...new Set(tasks.flatMap(({ length }) => length ?? []))];
  const tooLong = lengths.filter((length) => length > spec.contextLength);
  if (tooLong.length === 0) return;
  throw new AccelError(
    'ERR_ACCEL_PROMPT_TOO_LONG',
    `${spec.name} has a window of ${spec.contextLength} tokens; leave out the length${tooLong.length > 1 ? 's' : ''} ${tooLong.join(', ')} or take a model with a longer window.`,
  );
}

function checkMethods(methods: readonly EvalMethod[]): void {
  if (methods.length === 0)
    throw configError('There is nothing to evaluate: give at least one method.');
  const seen = new Set<string>();
  for (const { name } of methods) {
    if (seen.has(name))
      throw configError(
        `Two methods are called ${name}; results could not be told apart. Rename one.`,
      );
    seen.add(name);
  }
}

function sampleCount(samples: number | null, limit: number): number {
  const all = samples === null ? Infinity : wholeNumber(samples, 'The number of samples');
  return limit === -1 ? all : Math.min(all, wholeNumber(limit, 'The limit'));
}

function wholeNumber(value: number, what: string): number {
  if (!Number.isInteger(value) || value < 1)
    throw argumentError(`${what} is ${value}; give a whole number of at least 1.`);
  return value;
}
