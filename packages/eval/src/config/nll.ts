import { z } from 'zod';
import { nllConfig } from './defaults.js';
import { count, drawn, lengthKeys, listed, text } from './fields.js';
import { configReader, given, oneOf, readPaths, type ConfigReader } from './reader.js';
import type { NllConfig } from './types.js';

const fields = z.object({
  benchmark_name: z.literal('NLL'),
  ...lengthKeys,
  ...drawn,
  target_tokens: count.optional(),
  text_path: text.optional(),
});

/** Reads an NLL config. */
export const nllReader: ConfigReader = configReader(fields, (yaml, context) => {
  const config = nllConfig({
    ...readPaths(yaml, { textPath: 'text_path' }, context),
    ...given<Partial<NllConfig>>({
      lengths: listed(oneOf(yaml, ['length', 'lengths'], context)),
      samples: yaml.num_samples,
      seed: yaml.seed,
      targetTokens: yaml.target_tokens,
    }),
  });
  const shortest = Math.min(...config.lengths);
  if (config.targetTokens >= shortest) {
    context.refuse(
      'target_tokens',
      `a whole number below the shortest length, ${shortest}, so that something comes before the target`,
    );
  }
  return config;
});
