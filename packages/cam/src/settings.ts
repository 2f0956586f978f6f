import { parseOptions, type OptionsReader } from '@accel/core';
import { z } from 'zod';

/** Options of `cam`. */
export interface CamOptions {
  /** Rows after the one that leaves that take its value; rows that the cache does not have take nothing. Default 16. */
  readonly targets?: number;
  /**
   * When a value is folded. `bernoulli`: with probability p, the attention that the row received over the mean of its
   * targets, at most 1. `always` and `never` are for comparison. Default `'bernoulli'`.
   */
  readonly gate?: 'bernoulli' | 'always' | 'never';
  /** Seed of the gates, a whole number from 0. The same seed gives the same gates. Default 0. */
  readonly seed?: number;
  /**
   * Which attention counts. `stream`: of all tokens, those of the prompt included. `decode`: of decoded tokens only.
   * Default `'stream'`.
   */
  readonly statistic?: 'stream' | 'decode';
  /** What a value is divided by: the number of `targets`, or of those there are (`actual`). Default `'targets'`. */
  readonly divisor?: 'targets' | 'actual';
  /**
   * Only the newest so many rows may take values; for codecs that pack older rows. Under StreamingLLM targets are the
   * oldest of the recent rows, so nothing is folded unless this is at least its `recent`. Default: any row.
   */
  readonly recent?: number;
  /**
   * `decode`: on rows that leave one by one while decoding, as published. `prompt`: once, through the first prompt, the
   * form of KVCache-Factory and LOOM-Scope; the options from here on are for it. Default `'decode'`.
   */
  readonly at?: 'decode' | 'prompt';
  /** Last queries of the prompt that score rows; a value is folded into as many rows. 1 to 1024. Default 32. */
  readonly observe?: number;
  /** Prompts of fewer tokens are left alone; that of the selector's budget. Default: one more than `observe`. */
  readonly minPrompt?: number;
  /** Share of the prompt, rounded up, whose values are not folded. Default 0.1. */
  readonly startRatio?: number;
  /**
   * What a row's attention is compared with: the largest of the rows before the start and of the `observe` rows from it
   * on (`moving`), or of the last `observe` rows (`fixed`). Default `'moving'`.
   */
  readonly denominator?: 'moving' | 'fixed';
  /** Accept a sparse prefill, whose attention counts the computed blocks only. Default false. */
  readonly approximateSignal?: boolean;
}

/** {@link CamOptions}, checked and complete; a type, not an interface, so that it counts as JSON. */
export type CamSettings = {
  readonly targets: number;
  readonly gate: 'bernoulli' | 'always' | 'never';
  readonly seed: number;
  readonly statistic: 'stream' | 'decode';
  readonly divisor: 'targets' | 'actual';
  readonly recent?: number | undefined;
  readonly at: 'decode' | 'prompt';
  readonly observe: number;
  readonly minPrompt?: number | undefined;
  readonly startRatio: number;
  readonly denominator: 'moving' | 'fixed';
  readonly approximateSignal: boolean;
};

const schema: z.ZodType<CamSettings> = z.object({
  targets: z.int().min(1).default(16),
  gate: z.enum(['bernoulli', 'always', 'never']).default('bernoulli'),
  seed: z.int().min(0).default(0),
  statistic: z.enum(['stream', 'decode']).default('stream'),
  divisor: z.enum(['targets', 'actual']).default('targets'),
  recent: z.int().min(1).optional(),
  at: z.enum(['decode', 'prompt']).default('decode'),
  observe: z.int().min(1).max(1024).default(32),
  minPrompt: z.int().min(1).optional(),
  startRatio: z.number().min(0).lt(1).default(0.1),
  denominator: z.enum(['moving', 'fixed']).default('moving'),
  approximateSignal: z.boolean().default(false),
});

/** Our names. The seed toolkit's are translated by `fromLoom`. */
export const reader: OptionsReader<CamSettings> = { title: 'CaM', schema };

/** Checks options and fills in defaults. @throws AccelError `ERR_ACCEL_POLICY` */
export function settingsFrom(options: unknown): CamSettings {
  return parseOptions(reader, options);
}
