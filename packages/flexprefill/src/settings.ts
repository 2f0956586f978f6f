import { parseOptions, type OptionsReader } from '@accel/core';
import { z } from 'zod';

/** Options of `flexprefill`. */
export interface FlexprefillOptions {
  /** Share of attention to cover, above 0 and below 1. Default 0.9. */
  readonly gamma?: number;
  /** A head whose divergence is below this is query-aware; 0: no head ever is. Default 0.1. */
  readonly tau?: number;
  /** Tokens of columns, and of diagonals, that a head gets at least; null: one block. Default 512. */
  readonly minBudget?: number | null;
  /** Tokens of columns, and of diagonals, that a head gets at most; null: no limit. Default null. */
  readonly maxBudget?: number | null;
  /**
   * Edge of the blocks that are chosen from, 64 or 128. Attention is computed in blocks of 128: one is, if any of its
   * four blocks of 64 is chosen. Default 128.
   */
  readonly blockSize?: 64 | 128;
  /**
   * What a profile with an exact zero means: `'clean'`: 0 ln 0 = 0; `'compat'`: the divergence is no number, so the head
   * is not query-aware, as in the original. Default `'clean'`.
   */
  readonly mode?: 'clean' | 'compat';
}

/** {@link FlexprefillOptions}, checked and complete; a type, not an interface, so that it counts as JSON. */
export type FlexprefillSettings = {
  readonly gamma: number;
  readonly tau: number;
  readonly minBudget: number;
  readonly maxBudget: number | null;
  readonly blockSize: 64 | 128;
  readonly mode: 'clean' | 'compat';
};

const schema: z.ZodType<FlexprefillSettings> = z.object({
  gamma: z
    .number()
    .gt(0, 'must be above 0')
    .lt(1, 'must be below 1: all of the attention is dense attention')
    .default(0.9),
  tau: z.number().min(0).default(0.1),
  minBudget: z
    .int()
    .min(1)
    .nullable()
    .default(512)
    .transform((tokens) => tokens ?? 1),
  maxBudget: z.int().min(1).nullable().default(null),
  blockSize: z.union([z.literal(64), z.literal(128)]).default(128),
  mode: z.enum(['clean', 'compat']).default('clean'),
});

/** Our names, and the keys of the seed toolkit's `FlexPrefill_config.json`. */
export const reader: OptionsReader<FlexprefillSettings> = {
  title: 'FlexPrefill',
  schema,
  aliases: {
    block_size: 'blockSize',
    flex_prefill_gamma: 'gamma',
    flex_prefill_tau: 'tau',
    flex_prefill_min_budget: 'minBudget',
    flex_prefill_max_budget: 'maxBudget',
  },
};

/** Checks options and fills in defaults. @throws AccelError `ERR_ACCEL_POLICY` */
export function settingsFrom(options: unknown): FlexprefillSettings {
  return parseOptions(reader, options);
}
