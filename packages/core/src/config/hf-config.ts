import { readFile } from 'node:fs/promises';
import { AccelError } from '@accel/kernels';
import { z } from 'zod';
import { describeIssues } from './issues.js';
import type { FloatDType, RopeScaling } from './spec.js';

/** A parsed config.json before a family has looked at it. */
export interface RawConfig {
  /** Path for messages. */
  readonly file: string;
  readonly values: Readonly<Record<string, unknown>>;
}

/**
 * Reads a JSON object from a file of a model folder.
 * @returns undefined when the file does not exist
 * @throws AccelError `ERR_ACCEL_FILE` when it cannot be read, `ERR_ACCEL_CONFIG` when it is not a JSON object
 */
export async function readJsonObject(file: string): Promise<Record<string, unknown> | undefined> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new AccelError(
      'ERR_ACCEL_FILE',
      `Cannot read ${file}: ${(error as Error).message}. Check the path and its permissions.`,
      { cause: error },
    );
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new AccelError(
      'ERR_ACCEL_CONFIG',
      `${file} is not valid JSON: ${(error as Error).message}. Fetch the file again.`,
      { cause: error },
    );
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new AccelError(
      'ERR_ACCEL_CONFIG',
      `${file} must hold a JSON object. Fetch the file again.`,
    );
  }
  return value as Record<string, unknown>;
}

/** Checks a config against a schema; unknown keys are left alone, a bad or missing key is named. */
export function checkConfig<T>(schema: z.ZodType<T>, { file, values }: RawConfig): T {
  const result = schema.safeParse(values);
  if (result.success) return result.data;
  throw new AccelError(
    'ERR_ACCEL_CONFIG',
    `${file} cannot be used: ${describeIssues(result.error)}. ` +
      'Compare it with the config.json that belongs to the checkpoint.',
    { cause: result.error },
  );
}

/** An error about one key of a config. */
export function configError(file: string, key: string, problem: string): AccelError {
  return new AccelError('ERR_ACCEL_CONFIG', `${file}: ${key} ${problem}`);
}

/** Configs write null where they mean that there is nothing. */
export function isGiven<T>(value: T): value is NonNullable<T> {
  return value !== undefined && value !== null;
}

/** A size: a whole number of at least 1 that fits the int32 positions and indices of the kernels. */
export const size: z.ZodInt = z
  .int()
  .min(1)
  .max(2 ** 31 - 1);
/** A finite number above 0. */
export const positive: z.ZodNumber = z.number().positive();
const tokenId = z
  .int()
  .min(0)
  .max(2 ** 31 - 1);
/** One id, several, or none. */
export const tokenIds: z.ZodType<number | number[] | null | undefined> = z
  .union([tokenId, z.array(tokenId)])
  .nullish();
/** One id or none. */
export const optionalTokenId: z.ZodType<number | null | undefined> = tokenId.nullish();

/** `[]`, `[id]` or the list. */
export function listIds(ids: z.infer<typeof tokenIds>): readonly number[] {
  if (ids === null || ids === undefined) return [];
  return typeof ids === 'number' ? [ids] : ids;
}

const dtypes: Readonly<Record<string, FloatDType>> = {
  float32: 'float32',
  bfloat16: 'bfloat16',
  float16: 'float16',
};

/**
 * The storage format named by `dtype` (transformers 5) or `torch_dtype` (before). Without one, float32 as
 * transformers assumes.
 */
export function readDType({ file, values }: RawConfig): FloatDType {
  const key = isGiven(values['dtype']) ? 'dtype' : 'torch_dtype';
  const named = values[key] ?? 'float32';
  const dtype = typeof named === 'string' ? dtypes[named.replace(/^torch\./, '')] : undefined;
  if (dtype !== undefined) return dtype;
  throw configError(
    file,
    key,
    `is ${JSON.stringify(named)}; float32, bfloat16 and float16 checkpoints can be loaded. Convert the checkpoint.`,
  );
}

/** Rotary settings of a config, whichever spelling it uses. */
export interface RopeSettings {
  readonly theta: number;
  readonly scaling: RopeScaling;
  /** Positions that the scaled embedding is meant for. */
  readonly contextLength: number;
}

const ropeSchema = z.looseObject({
  rope_type: z.string().optional(),
  type: z.string().optional(),
  rope_theta: positive.optional(),
  factor: z.number().min(1).optional(),
  original_max_position_embeddings: size.optional(),
  low_freq_factor: positive.optional(),
  high_freq_factor: positive.optional(),
  beta_fast: positive.nullish(),
  beta_slow: positive.nullish(),
  attention_factor: positive.nullish(),
  mscale: z.number().nullish(),
  mscale_all_dim: z.number().nullish(),
  truncate: z.boolean().nullish(),
});

/** Positions are int32 in the kernels. */
const UNBOUNDED = 2 ** 31 - 1;

/**
 * Reads `rope_parameters` (transformers 5, base inside) or `rope_scaling` with `rope_theta` beside it; the kind is
 * under `rope_type` or, in older files, `type`.
 * @param context the config's `max_position_embeddings`
 */
export function readRope(config: RawConfig, context: number): RopeSettings {
  const { file, values } = config;
  const key = isGiven(values['rope_parameters']) ? 'rope_parameters' : 'rope_scaling';
  const { [key]: rope } = checkConfig(
    z.looseObject({ [key]: ropeSchema.nullish() }),
    config,
  ) as Record<string, z.infer<typeof ropeSchema> | null | undefined>;
  const { rope_theta: besides } = checkConfig(
    z.looseObject({ rope_theta: positive.nullish() }),
    config,
  );
  const theta = rope?.rope_theta ?? besides ?? 10_000;
  const kind = rope?.rope_type ?? rope?.type ?? 'default';
  const missing = (name: string): AccelError =>
    configError(file, `${key}.${name}`, `is missing, and rope type "${kind}" needs it.`);
  const need = (name: 'factor' | 'low_freq_factor' | 'high_freq_factor'): number => {
    const value = rope?.[name];
    if (value === undefined) throw missing(name);
    return value;
  };
  const original = rope?.original_max_position_embeddings;
  switch (kind) {
    case 'default':
      return { theta, scaling: { kind }, contextLength: context };
    case 'linear': {
      const factor = need('factor');
      return { theta, scaling: { kind, factor }, contextLength: Math.floor(context * factor) };
    }
    case 'dynamic':
      // The base follows the length, so there is no length at which the method ends.
      return {
        theta,
        scaling: { kind, factor: need('factor'), originalContext: context },
        contextLength: UNBOUNDED,
      };
    case 'llama3': {
      if (original === undefined) throw missing('original_max_position_embeddings');
      const low = need('low_freq_factor');
      const high = need('high_freq_factor');
      if (high <= low) {
        throw configError(
          file,
          `${key}.high_freq_factor`,
          `(${high}) must be above low_freq_factor (${low}).`,
        );
      }
      return {
        theta,
        scaling: {
          kind,
          factor: need('factor'),
          lowFrequencyFactor: low,
          highFrequencyFactor: high,
          originalContext: original,
        },
        contextLength: context,
      };
    }
    case 'yarn': {
      const originalContext = original ?? context;
      const factor = rope?.factor ?? context / originalContext;
      if (theta <= 1)
        throw configError(file, 'rope_theta', `is ${theta}; YaRN needs a base above 1.`);
      return {
        theta,
        scaling: {
          kind,
          factor,
          originalContext,
          betaFast: rope?.beta_fast ?? 32,
          betaSlow: rope?.beta_slow ?? 1,
          attentionFactor:
            rope?.attention_factor ?? yarnAttention(factor, rope?.mscale, rope?.mscale_all_dim),
          truncate: rope?.truncate ?? true,
        },
        contextLength: Math.max(context, Math.floor(originalContext * factor)),
      };
    }
    default:
      throw configError(
        file,
        `${key}.rope_type`,
        `is "${kind}"; supported are default, linear, dynamic, llama3 and yarn.`,
      );
  }
}

/** The factor on cos and sin where the config gives none: 0.1 ln(factor) + 1, or a quotient of two such terms. */
function yarnAttention(factor: number, mscale?: number | null, all?: number | null): number {
  const term = (weight: number): number => (factor <= 1 ? 1 : 0.1 * weight * Math.log(factor) + 1);
  return mscale && all ? term(mscale) / term(all) : term(1);
}
