import { z } from 'zod';
import { LONGBENCH_E_TASKS, LONGBENCH_TASKS } from '../longbench/tasks.js';
import { longBenchConfig } from './defaults.js';
import { asked, drawn, listOf, listed, text } from './fields.js';
import { configReader, given, readPaths, readTemplate, type ConfigReader } from './reader.js';
import type { LongBenchConfig } from './types.js';

const names = [...LONGBENCH_TASKS, ...LONGBENCH_E_TASKS].map(({ name }) => name);

const fields = z.object({
  benchmark_name: z.literal('LongBench'),
  task_names: listOf(z.enum(names)).optional(),
  // Samples are taken in the order of their file, so a seed has nothing to say.
  num_samples: drawn.num_samples,
  ...asked,
  data_path: text.optional(),
});

/** Reads a LongBench config. */
export const longBenchReader: ConfigReader = configReader(fields, (yaml, context) =>
  longBenchConfig({
    ...readTemplate(yaml, context),
    ...readPaths(yaml, { dataPath: 'data_path' }, context),
    ...given<Partial<LongBenchConfig>>({
      tasks: listed(yaml.task_names),
      samples: yaml.num_samples,
      modes: listed(yaml.modes),
    }),
  }),
);
