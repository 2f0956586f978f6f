import { AccelError, budget, parseOptions, resolveBudget } from '@accel/core';
import type { Budget, OptionsReader } from '@accel/core';
import { z } from 'zod';

/** Options of `l2compress`. */
export interface L2compressOptions {
  /**
   * Rows kept per layer and kv head: a number, or a share. A share is of the tokens seen, and with
   * `evicts: 'everyStep'` of the rows in the cache. Default `{ tokens: 1024 }`.
   */
  readonly budget?: Budget;
  /** How a share becomes rows: `'ceil'` as published, `'trunc'` as in kvpress. Default `'ceil'`. */
  readonly rounding?: 'ceil' | 'trunc';
  /** Layers that keep everything, from 0. Default `[0, 1]`. */
  readonly skipLayers?: readonly number[];
  /** A layer with fewer rows is left alone. Default 0. */
  readonly pruneAfter?: number;
  /** First rows that always stay. Default 0: nothing is protected, as published. */
  readonly sink?: number;
  /** Newest rows that always stay. Default 0. */
  readonly recent?: number;
  /**
   * When rows leave. `prefillEnd`: once, when a prompt ends. `everyStep`: when a prompt ends and after every token, as in
   * the authors' language-model loop. Default `'prefillEnd'`.
   */
  readonly evicts?: 'prefillEnd' | 'everyStep';
  /**
   * Compress at the end of the first prompt only, as published, or of every turn. Default `'first'`; with
   * `evicts: 'everyStep'` it can only be `'every'`, which is the default then.
   */
  readonly turns?: 'first' | 'every';
}

/** {@link L2compressOptions}, checked and complete; a type, not an interface, so that it counts as JSON. */
export type L2compressSettings = {
  readonly budget: Budget;
  readonly rounding: 'ceil' | 'trunc';
  readonly skipLayers: readonly number[];
  readonly pruneAfter: number;
  readonly sink: number;
  readonly recent: number;
  readonly evicts: 'prefillEnd' | 'everyStep';
  readonly turns: 'first' | 'every';
};

/** Options as written: a budget that has not been checked yet, and turns that follow from `evicts`. */
type Given = Omit<L2compressSettings, 'budget' | 'turns'> & {
  readonly budget: { readonly tokens?: number | undefined; readonly keep?: number | undefined };
  readonly turns?: 'first' | 'every' | undefined;
};

const schema: z.ZodType<Given> = z.object({
  budget: z
    .object({ tokens: z.number().optional(), keep: z.number().optional() })
    .default({ tokens: 1024 }),
  rounding: z.enum(['ceil', 'trunc']).default('ceil'),
  skipLayers: z.array(z.int().min(0)).default([0, 1]),
  pruneAfter: z.int().min(0).default(0),
  sink: z.int().min(0).default(0),
  recent: z.int().min(0).default(0),
  evicts: z.enum(['prefillEnd', 'everyStep']).default('prefillEnd'),
  turns: z.enum(['first', 'every']).optional(),
});

/** Our names, the keys of the seed toolkit's `L2Compress_config.json`, and those of the authors' function. */
export const reader: OptionsReader<Given> = {
  title: 'L2Compress',
  schema,
  aliases: {
    max_capacity_prompt: 'budget.tokens',
    skip_layers: 'skipLayers',
    keep_ratio: 'budget.keep',
    prune_after: 'pruneAfter',
  },
};

/** Checks options and fills in defaults. @throws AccelError `ERR_ACCEL_BUDGET`, `ERR_ACCEL_POLICY` */
export function settingsFrom(options: unknown): L2compressSettings {
  const { turns, ...parsed } = parseOptions(reader, options);
  const { sink, recent, evicts } = parsed;
  if (evicts === 'everyStep' && turns === 'first') {
    throw new AccelError(
      'ERR_ACCEL_POLICY',
      'L2Compress: evicts "everyStep" drops rows after every token, so turns "first" cannot be. Leave turns out, or use evicts "prefillEnd".',
    );
  }
  const limits =
    sink + recent === 0
      ? {}
      : {
          minimum: sink + recent + 1,
          reason: `${sink} sinks, ${recent} recent rows and one that is chosen`,
        };
  return {
    ...parsed,
    budget: budget(parsed.budget as Budget, limits),
    turns: turns ?? (evicts === 'everyStep' ? 'every' : 'first'),
  };
}

/** Rows to keep of `rows`; a share never goes below what is protected and one row more. */
export function capacityOf(settings: L2compressSettings, rows: number): number {
  const { budget, rounding, sink, recent } = settings;
  if ('tokens' in budget) return budget.tokens;
  return Math.max(resolveBudget(budget, rows, rounding), sink + recent + 1);
}

/** Rows up to which nothing leaves: a share that is rounded up keeps everything of a few rows. */
export function idleRows({ budget, sink, recent, pruneAfter }: L2compressSettings): number {
  const few =
    'tokens' in budget
      ? budget.tokens
      : Math.max(Math.ceil(1 / (1 - budget.keep)), sink + recent + 1);
  return Math.max(few, pruneAfter - 1);
}
