import { z } from 'zod';
import { niahConfig } from './defaults.js';
import { asked, count, drawn, lengthKeys, listOf, listed, text } from './fields.js';
import { linearSteps, sigmoidSteps } from './intervals.js';
import {
  configReader,
  given,
  oneOf,
  readPaths,
  readTemplate,
  type ConfigReader,
  type ReadContext,
} from './reader.js';
import { MAGIC_NUMBER, type NiahConfig } from './types.js';

const percent = z.number().min(0).max(100);
const steps = count.max(1000);

/** The seed toolkit's keys, most of which are gkamradt/LLMTest_NeedleInAHaystack's, and ours. */
const fields = z.object({
  benchmark_name: z.literal('NIAH'),
  // There is one task, so that these say nothing.
  task_name: listOf(text).optional(),
  task_names: listOf(text).optional(),
  ...lengthKeys,
  context_lengths: listOf(count).optional(),
  context_lengths_min: count.optional(),
  context_lengths_max: count.optional(),
  context_lengths_num_intervals: steps.optional(),
  depths: listOf(percent).optional(),
  document_depth_percents: listOf(percent).optional(),
  document_depth_percent_min: percent.optional(),
  document_depth_percent_max: percent.optional(),
  document_depth_percent_intervals: steps.optional(),
  document_depth_percent_interval_type: z.enum(['linear', 'sigmoid']).optional(),
  final_context_length_buffer: z.int().min(0).optional(),
  needle: text.optional(),
  retrieval_question: text.optional(),
  answer: text.optional(),
  haystack_file: text.optional(),
  essay_path: text.optional(),
  ...drawn,
  ...asked,
});

type Fields = z.infer<typeof fields>;

/** Reads a NIAH config. */
export const niahReader: ConfigReader = configReader(fields, (yaml, context) => {
  if (yaml.haystack_file !== undefined) {
    context.warn(
      'haystack_file',
      "is a file of the seed toolkit's data folder and is not read; essay_path names a haystack, and without it Moby-Dick is one",
    );
  }
  const config = niahConfig({
    ...readTemplate(yaml, context),
    ...readPaths(yaml, { essayPath: 'essay_path' }, context),
    ...readNeedle(yaml, context),
    ...given<Partial<NiahConfig>>({
      lengths: readLengths(yaml, context),
      depths: readDepths(yaml, context),
      buffer: yaml.final_context_length_buffer,
      seed: yaml.seed,
      modes: listed(yaml.modes),
    }),
  });
  return { ...config, samples: (yaml.num_samples ?? 1) * config.depths.length };
});

function readLengths(yaml: Fields, context: ReadContext): readonly number[] | undefined {
  const list = listed(oneOf(yaml, ['length', 'lengths', 'context_lengths'], context));
  if (list !== undefined) {
    warnOfUnused(yaml, 'context_lengths_', 'a list of lengths', context);
    return list;
  }
  const min = yaml.context_lengths_min ?? 1000;
  const max = yaml.context_lengths_max ?? 16_000;
  requireOrder('context_lengths', min, max, context);
  return linearSteps(min, max, yaml.context_lengths_num_intervals ?? 16);
}

function readDepths(yaml: Fields, context: ReadContext): readonly number[] | undefined {
  const list = listed(oneOf(yaml, ['depths', 'document_depth_percents'], context));
  if (list !== undefined) {
    warnOfUnused(yaml, 'document_depth_percent_', 'a list of depths', context);
    return list;
  }
  const min = yaml.document_depth_percent_min ?? 0;
  const max = yaml.document_depth_percent_max ?? 100;
  requireOrder('document_depth_percent', min, max, context);
  const between =
    yaml.document_depth_percent_interval_type === 'sigmoid' ? sigmoidSteps : linearSteps;
  return between(min, max, yaml.document_depth_percent_intervals ?? 11);
}

/** A needle of one's own needs a question and an answer of its own: the default ones would score nonsense. */
function readNeedle(yaml: Fields, context: ReadContext): Partial<NiahConfig> {
  const { needle, retrieval_question: question, answer } = yaml;
  if (needle === MAGIC_NUMBER) {
    warnOfUnused(yaml, /^(retrieval_question|answer)$/, `needle: ${MAGIC_NUMBER}`, context);
  } else {
    const parts = { needle, retrieval_question: question, answer };
    const missing = Object.entries(parts).find(([, part]) => part === undefined)?.[0];
    if (missing !== undefined && Object.values(parts).some((part) => part !== undefined)) {
      context.refuse(missing, 'needle, retrieval_question and answer together, or none of them');
    }
  }
  return given<Partial<NiahConfig>>({ needle, question, answer });
}

function warnOfUnused(
  yaml: Fields,
  keys: string | RegExp,
  because: string,
  context: ReadContext,
): void {
  for (const key of Object.keys(yaml)) {
    const unused = typeof keys === 'string' ? key.startsWith(keys) : keys.test(key);
    if (unused) context.warn(key, `is not used, because there is ${because}`);
  }
}

function requireOrder(name: string, min: number, max: number, context: ReadContext): void {
  if (min > max) context.refuse(`${name}_max`, `a number that is not below ${name}_min, ${min}`);
}
