import { z } from 'zod';
import { RULER_TASKS } from '../ruler/tasks.js';
import { rulerConfig } from './defaults.js';
import { asked, drawn, lengthKeys, listOf, listed, text } from './fields.js';
import {
  configReader,
  given,
  oneOf,
  readPaths,
  readTemplate,
  type ConfigReader,
} from './reader.js';
import type { RulerConfig } from './types.js';

const fields = z.object({
  benchmark_name: z.literal('RULER'),
  task_names: listOf(z.enum(RULER_TASKS.map(({ name }) => name))).optional(),
  ...lengthKeys,
  ...drawn,
  ...asked,
  // The seed toolkit writes samples to files first, unless this is false. Here they are always generated.
  build_data: z.boolean().optional(),
  tokens_to_generate: z.enum(['ruler', 'loom']).optional(),
  worked_example: z.boolean().optional(),
  essay_path: text.optional(),
  words_path: text.optional(),
  punkt_path: text.optional(),
  english_words_path: text.optional(),
  squad_path: text.optional(),
  hotpot_path: text.optional(),
});

const PATHS = {
  essayPath: 'essay_path',
  wordsPath: 'words_path',
  punktPath: 'punkt_path',
  englishWordsPath: 'english_words_path',
  squadPath: 'squad_path',
  hotpotPath: 'hotpot_path',
} as const;

/** Reads a RULER config. */
export const rulerReader: ConfigReader = configReader(fields, (yaml, context) =>
  rulerConfig({
    ...readTemplate(yaml, context),
    ...readPaths(yaml, PATHS, context),
    ...given<Partial<RulerConfig>>({
      tasks: listed(yaml.task_names),
      lengths: listed(oneOf(yaml, ['length', 'lengths'], context)),
      samples: yaml.num_samples,
      seed: yaml.seed,
      modes: listed(yaml.modes),
      tokensToGenerate: yaml.tokens_to_generate,
      workedExample: yaml.worked_example,
    }),
  }),
);
