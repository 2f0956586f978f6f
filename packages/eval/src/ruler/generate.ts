import { argumentError } from '../errors.js';
import { generateCommonWords } from './common-words.js';
import { generateFrequentWords } from './frequent-words.js';
import { generateNiah } from './niah.js';
import { generateQa } from './qa.js';
import type { GenerateContext, RulerSample, RulerTask, SampleSteps } from './types.js';
import { generateVariableTracking } from './variable-tracking.js';

/**
 * The samples of one task at one length, one after the other. Sample i does not depend on how many are taken, so a
 * longer run continues a shorter one. A new task family is a file beside `niah.ts` and a line here.
 *
 * @throws AccelError ERR_ACCEL_ARGUMENT when the task does not fit the length, or `qa` data have no more questions
 */
export function* generateSamples(
  task: RulerTask,
  context: GenerateContext,
): Generator<RulerSample, never> {
  let count = 0;
  for (const sample of sampleSteps(task, context)) {
    if (sample === undefined) continue;
    yield sample;
    count++;
  }
  throw argumentError(`The data of ${task.name} end after ${count} samples; take no more.`);
}

/** As {@link generateSamples}, but with `undefined` in between, for callers that must not block for long. */
export function sampleSteps(task: RulerTask, context: GenerateContext): SampleSteps {
  const { spec } = task;
  switch (spec.family) {
    case 'niah':
      return generateNiah({ ...task, spec }, context);
    case 'variable_tracking':
      return generateVariableTracking({ ...task, spec }, context);
    case 'common_words':
      return generateCommonWords({ ...task, spec }, context);
    case 'frequent_words':
      return generateFrequentWords({ ...task, spec }, context);
    case 'qa':
      return generateQa({ ...task, spec }, context);
  }
}
