import { AccelError } from '@accel/core';
import type { TemplateMode } from '../config.js';
import { argumentError, configError } from '../errors.js';
import { maxNewTokens, RULER_TASKS, rulerTask } from '../ruler/tasks.js';
import type { TokenPreset } from '../ruler/tasks.js';
import type { RulerTask } from '../ruler/types.js';
import type { EvalMethod, EvalOptions } from './types.js';

/** One task at one length with all its samples. */
export interface PlanCell {
  readonly id: string;
  readonly task: RulerTask;
  readonly length: number;
  readonly maxNewTokens: number;
}

/** What a run will do, checked and with defaults filled in. */
export interface Plan {
  /** Length-major, as in the seed toolkit. */
  readonly cells: readonly PlanCell[];
  readonly methods: readonly EvalMethod[];
  /** Samples of each cell. */
  readonly samples: number;
  readonly seed: number;
  readonly template: TemplateMode;
  readonly noTemplateTasks: 'all' | readonly string[];
  readonly tokensToGenerate: TokenPreset;
  readonly workedExample: boolean;
}

/** Checks the options before anything runs. @throws AccelError */
export function makePlan(options: EvalOptions): Plan {
  const { model, methods } = options;
  checkMethods(methods);
  const tasks = (options.tasks ?? RULER_TASKS.map((task) => task.name)).map(rulerTask);
  const lengths = options.lengths ?? [4096];
  if (tasks.length === 0 || lengths.length === 0) {
    throw configError('There is nothing to evaluate: give at least one task and one length.');
  }
  const tooLong = lengths.filter((length) => length > model.spec.contextLength);
  if (tooLong.length > 0) {
    throw new AccelError(
      'ERR_ACCEL_PROMPT_TOO_LONG',
      `${model.spec.name} has a window of ${model.spec.contextLength} tokens; leave out the length${tooLong.length > 1 ? 's' : ''} ${tooLong.join(', ')} or take a model with a longer window.`,
    );
  }
  const preset = options.tokensToGenerate ?? 'ruler';
  const template = options.template ?? 'auto';
  if (template === 'model' && !model.tokenizer.hasChatTemplate) {
    throw configError(
      `${model.spec.name} has no chat template; set template to auto or NULL to prompt it raw.`,
    );
  }
  return {
    cells: lengths.flatMap((length) =>
      tasks.map((task) => ({
        id: `${task.name}_${length}`,
        task,
        length: wholeNumber(length, 'A length'),
        maxNewTokens: maxNewTokens(task, preset),
      })),
    ),
    methods,
    samples: sampleCount(options),
    seed: options.seed ?? 42,
    template,
    noTemplateTasks: options.noTemplateTasks ?? [],
    tokensToGenerate: preset,
    workedExample: options.workedExample ?? true,
  };
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

function sampleCount({ samples = 50, limit = -1 }: EvalOptions): number {
  wholeNumber(samples, 'The number of samples');
  return limit === -1 ? samples : Math.min(samples, wholeNumber(limit, 'The limit'));
}

function wholeNumber(value: number, what: string): number {
  if (!Number.isInteger(value) || value < 1)
    throw argumentError(`${what} is ${value}; give a whole number of at least 1.`);
  return value;
}
