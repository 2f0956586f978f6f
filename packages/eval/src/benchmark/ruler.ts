import type { RulerConfig } from '../config/types.js';
import { sampleSteps } from '../ruler/generate.js';
import { loadSources } from '../ruler/sources.js';
import { maxNewTokens, rulerTask } from '../ruler/tasks.js';
import type { TokenPreset } from '../ruler/tasks.js';
import type { RulerSample, RulerSources, RulerTask } from '../ruler/types.js';
import { stringMatchAll, stringMatchPart } from '../score.js';
import type { Benchmark, EvalTask, QuestionSample, SampleFacts } from './types.js';

/**
 * RULER (arXiv 2404.06654): the tasks and lengths of a config, with its texts read.
 *
 * @throws AccelError ERR_ACCEL_CONFIG for an unknown task, ERR_ACCEL_FILE for texts or data that cannot be read
 */
export async function openRuler(config: RulerConfig): Promise<Benchmark> {
  const tasks = config.tasks.map(rulerTask);
  const { fingerprint, ...sources } = await loadSources(config);
  return {
    name: 'RULER',
    tasks: config.lengths.flatMap((length) =>
      tasks.map((task) => evalTask(task, length, config.tokensToGenerate, sources)),
    ),
    fingerprint,
    *samples({ name, length = 0, maxNewTokens: most }, meter) {
      const steps = sampleSteps(rulerTask(name), {
        countTokens: (text) => meter.countTokens(text),
        wrap: (text) => meter.wrap(text),
        length,
        maxNewTokens: most,
        seed: config.seed,
        workedExample: config.workedExample,
        sources,
      });
      for (const sample of steps) yield sample && questionSample(sample);
    },
    score(task, prediction, { references }) {
      return task.metric.name === 'string_match_part'
        ? stringMatchPart(prediction, references)
        : stringMatchAll(prediction, references);
    },
  };
}

function evalTask(
  task: RulerTask,
  length: number,
  preset: TokenPreset,
  { qa }: Pick<RulerSources, 'qa'>,
): EvalTask {
  const data = task.spec.family === 'qa' ? qa[task.spec.data] : undefined;
  return {
    id: `${task.name}_${length}`,
    name: task.name,
    length,
    maxNewTokens: maxNewTokens(task, preset),
    metric: { name: task.metric },
    ...(data && { available: data.questions.length, data: data.digest }),
  };
}

function questionSample(sample: RulerSample): QuestionSample {
  const { index, context, question, answerPrefix, firstQuestion, references } = sample;
  return {
    kind: 'question',
    index,
    context,
    question,
    answerPrefix,
    firstQuestion,
    references,
    facts: factsOf(sample),
  };
}

/**
 * What is known about a sample: RULER's `length`; `row`, the question's number in the data; `depth`, where a single
 * needle stands, in percent of the context's characters.
 */
function factsOf(sample: RulerSample): SampleFacts {
  const { context, references, measuredLength, answerOffset, row } = sample;
  return {
    measuredLength,
    ...(row !== undefined && { row }),
    ...(answerOffset !== undefined &&
      references.length === 1 && {
        depth: Math.round((1000 * answerOffset) / context.length) / 10,
      }),
  };
}
