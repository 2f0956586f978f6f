import { AccelError } from '@accel/core';
import { PythonRandom } from '../random/python-random.js';
import { QA } from './prompts.js';
import type { QaData } from './qa-data.js';
import { askFrom, fittedSamples } from './question.js';
import type { Question } from './question.js';
import type { GenerateContext, QaSpec, RulerTask, SampleSteps } from './types.js';

/**
 * Generates questions about documents, one sample a question, in the official generator's order of random draws. Ends
 * with the last question of the data. The original never ends at a question whose own documents do not fit; here it is
 * left out.
 */
export function* generateQa(task: RulerTask<QaSpec>, context: GenerateContext): SampleSteps {
  const data = context.sources.qa[task.spec.data];
  if (data === undefined) {
    throw new AccelError(
      'ERR_ACCEL_FILE',
      `${task.name} needs data that was not loaded: name the task in loadSources({ tasks }).`,
    );
  }
  yield* fittedSamples(task, context, {
    step: 10,
    draw: qaQuestions(data, context.seed),
    count: data.questions.length,
  });
}

/** The function that draws documents for a question: `size` of them, its own included. */
function qaQuestions(
  { documents, questions }: QaData,
  seed: number,
): (size: number, index: number) => Question {
  const random = new PythonRandom(seed);

  function choose(size: number, own: readonly number[], related: readonly number[]): number[] {
    if (size >= documents.length) {
      return Array.from({ length: size }, (_, i) => i % documents.length);
    }
    // A question whose own documents are more keeps them all; the original never ends there.
    const missing = Math.max(0, size - own.length);
    if (missing <= related.length) return [...own, ...random.sample(related, missing)];
    const taken = new Set([...own, ...related]);
    const others = [...documents.keys()].filter((document) => !taken.has(document));
    return [...own, ...related, ...random.sample(others, missing - related.length)];
  }

  return (size, index) => {
    const asked = at(questions, index);
    const chosen = choose(size, asked.documents, asked.related);
    // A generator of its own, started anew: haystacks of one size get the same permutation.
    new PythonRandom(seed).shuffle(chosen);
    const context = chosen
      .map((document, i) => `Document ${i + 1}:\n${documents[document] ?? ''}`)
      .join('\n\n');
    return askFrom(QA, { context, query: asked.text }, asked.answers, () => ({
      query: at(questions, (index + 1) % questions.length).text,
    }));
  };
}

function at<T>(items: readonly T[], index: number): T {
  return items[index] as T;
}
