import { AccelError } from '@accel/core';
import { generateNiah } from './niah.js';
import type { GenerateContext, RulerSample, RulerTask, SampleSteps } from './types.js';
import { generateVariableTracking } from './variable-tracking.js';

/**
 * The samples of one task at one length, one after the other, without end. Sample i does not depend on how many are
 * taken, so a longer run continues a shorter one. A new task family is a file beside `niah.ts` and a line here.
 *
 * @throws AccelError ERR_ACCEL_ARGUMENT when the task does not fit the length
 */
export function* generateSamples(
  task: RulerTask,
  context: GenerateContext,
): Generator<RulerSample, never> {
  for (const sample of sampleSteps(task, context)) if (sample !== undefined) yield sample;
  throw new AccelError('ERR_ACCEL_INTERNAL', 'A generator of samples ended; it never should.');
}

/** As {@link generateSamples}, but with `undefined` in between, for callers that must not block for long. */
export function sampleSteps(task: RulerTask, context: GenerateContext): SampleSteps {
  const { spec } = task;
  switch (spec.family) {
    case 'niah':
      return generateNiah({ ...task, spec }, context);
    case 'variable_tracking':
      return generateVariableTracking({ ...task, spec }, context);
  }
}
