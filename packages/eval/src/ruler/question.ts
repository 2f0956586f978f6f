import { PythonRandom } from '../random/python-random.js';
import type { Draw } from './fit.js';
import { doesNotFit, drawFitting, fitHaystack } from './fit.js';
import type { FitOptions } from './fit.js';
import { fill } from './prompts.js';
import type { PromptTemplate } from './prompts.js';
import type { GenerateContext, RulerSample, RulerTask, SampleSteps } from './types.js';

/** A drawn question, before it is known whether it fits. */
export interface Question {
  readonly context: string;
  readonly question: string;
  readonly answerPrefix: string;
  readonly answers: readonly string[];
  /** Asks something else about the context. Called for questions that fit, and only once for each. */
  readonly firstQuestion: () => string;
}

/** Fills a template. @param another the fields of the first question, called when that is wanted */
export function askFrom(
  template: PromptTemplate,
  fields: Readonly<Record<string, string>>,
  answers: readonly string[],
  another: () => Readonly<Record<string, string>>,
): Question {
  return {
    context: fill(template.context, fields),
    question: fill(template.question, fields),
    answerPrefix: fill(template.answerPrefix, fields),
    answers,
    firstQuestion: () => fill(template.question, { ...fields, ...another() }),
  };
}

/** Random numbers for what RULER does not have: a stream that no 32-bit seed starts. */
export function extraRandom(seed: number): PythonRandom {
  return new PythonRandom(BigInt(seed) + (1n << 32n));
}

/** A question with the tokens of its whole prompt. */
export function measured(value: Question, { countTokens, wrap }: GenerateContext): Draw<Question> {
  const input = value.context + value.question;
  return {
    value,
    tokens: countTokens((wrap === undefined ? input : wrap(input)) + value.answerPrefix),
  };
}

/** A question that fits, as a sample. */
export function sampleOf(
  task: RulerTask,
  { length, maxNewTokens }: GenerateContext,
  index: number,
  { value, tokens }: Draw<Question>,
): RulerSample {
  const { context, question, answerPrefix } = value;
  return {
    id: `${task.name}_${length}/${index}`,
    task: task.name,
    length,
    index,
    input: context + question,
    context,
    question,
    answerPrefix,
    firstQuestion: value.firstQuestion(),
    references: value.answers,
    measuredLength: tokens + maxNewTokens,
  };
}

/** How the questions of a task are drawn and fitted to the length. */
export interface SampleOptions extends Pick<FitOptions<Question>, 'step' | 'probe' | 'most'> {
  /** Draws question `number` over a haystack of `size` units. */
  readonly draw: (size: number, number: number) => Question;
  /** Draws a question for the search alone. Default: question 0. */
  readonly search?: (size: number) => Question;
  /** Tokens to keep free during the search besides the answer. Default 0. */
  readonly reserve?: number;
  /**
   * Tasks with data: how many questions there are. One that is too long for its own sake is left out, unless it is the
   * first. Default: no end, and an error when one is too long.
   */
  readonly count?: number;
}

/**
 * Finds the size of the haystack once, then draws one sample after another.
 *
 * @throws AccelError ERR_ACCEL_ARGUMENT when even the smallest haystack is too long; the original never ends then
 */
export function* fittedSamples(
  task: RulerTask,
  context: GenerateContext,
  options: SampleOptions,
): SampleSteps {
  const { length, maxNewTokens } = context;
  const { step, draw, search = (units: number) => draw(units, 0), reserve = 0, count } = options;
  const size = yield* fitHaystack({
    ...options,
    length,
    reserve: reserve + maxNewTokens,
    draw: (units) => measured(search(units), context),
  });
  let index = 0;
  for (let number = 0; number !== count; number++) {
    const drawn = yield* drawFitting({
      length,
      step,
      size,
      answer: maxNewTokens,
      draw: (units) => measured(draw(units, number), context),
    });
    const tokens = drawn.tokens + maxNewTokens;
    if (tokens <= length) {
      const sample = sampleOf(task, context, index++, drawn);
      yield count === undefined ? sample : { ...sample, row: number };
    } else if (count === undefined || number === 0) {
      throw doesNotFit(`${task.name}_${length}/${number}`, tokens, length);
    }
  }
}
