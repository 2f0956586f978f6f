import type { PolicyJson } from '@accel/core';
import { z } from 'zod';
import { MODES } from '../prompt/modes.js';
import type { RunSettings } from '../runner/fingerprint.js';
import type { RunFile } from '../runner/run-file.js';

const count = z.number().int().nonnegative();
const mode = z.enum(MODES);
const length = count.nullable();
const texts = z.array(z.string());
const names = z.record(z.string(), z.string());

/** `run.json`. What only the engine reads of it (settings, policies) is taken as it is. */
export const runFile: z.ZodType<RunFile> = z.object({
  format: z.literal('accel-eval-run/2'),
  settings: z.custom<RunSettings>(
    (value) =>
      z.looseObject({ benchmark: z.enum(['RULER', 'LongBench', 'NIAH', 'NLL']) }).safeParse(value)
        .success,
    'must be an object with the name of a benchmark',
  ),
  config: z.unknown(),
  seeds: z.record(z.string(), z.number()),
  modes: z.array(mode),
  methods: z.array(
    z.object({
      name: z.string(),
      digest: z.string(),
      policy: z.custom<PolicyJson>(
        (value) => z.looseObject({ parts: z.array(z.unknown()) }).safeParse(value).success,
        'must be a policy',
      ),
    }),
  ),
  tasks: z.array(
    z.object({
      id: z.string(),
      name: z.string(),
      length,
      metric: z.object({
        name: z.string(),
        better: z.enum(['higher', 'lower']).exactOptional(),
        unit: z.enum(['percent', 'nats']).exactOptional(),
      }),
      maxNewTokens: count,
      samples: count,
      data: z.string().optional(),
    }),
  ),
  strict: z.boolean(),
  prompts: z.array(
    z.object({
      task: z.string(),
      mode,
      tokens: count,
      head: z.string(),
      tail: z.string(),
      ids: z.array(z.number()),
      stopIds: z.array(z.number()),
      stop: texts,
    }),
  ),
  calls: z.array(
    z.object({
      started: z.string(),
      finished: z.string().nullable(),
      seconds: z.number(),
      resumed: count,
      hardware: z.object({
        host: z.string(),
        platform: z.string(),
        cpu: z.string(),
        cores: count,
        memoryBytes: z.number(),
        devices: texts,
      }),
      versions: names,
      batchSize: count,
      executor: z.string(),
      command: texts.optional(),
    }),
  ),
  achieved: z.array(
    z.object({ id: z.string(), promptTokens: count, rowsStored: z.number(), kvBytes: z.number() }),
  ),
});
