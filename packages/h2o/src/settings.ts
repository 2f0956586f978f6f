import { AccelError, budget, parseOptions, resolveBudget } from '@accel/core';
import type { Budget, HeadReduce, OptionsReader } from '@accel/core';
import { z } from 'zod';

/** Options of `h2o`. */
export interface H2oOptions {
  /**
   * Rows kept per layer and kv head, heavy hitters and recent rows together; a share is of the first prompt, rounded
   * down. Default `{ tokens: 2048 }`.
   */
  readonly budget?: Budget;
  /** Newest rows that stay whatever their score, 0 to the budget. The rest are heavy hitters. Default: half of the budget. */
  readonly recent?: number;
  /** How the attention of the query heads of a group becomes their kv head's score, in each forward. Default `'mean'`. */
  readonly groupReduce?: HeadReduce;
  /**
   * `everyStep`: after the prompt, after every token and after every later turn. `prefillEnd`: once, at the end of the
   * first prompt, and from then on rows are only added. Default `'everyStep'`.
   */
  readonly evicts?: 'everyStep' | 'prefillEnd';
  /** Accept a sparse prefill, whose scores count the computed blocks only. Default false. */
  readonly approximateSignal?: boolean;
}

/** Options as given: a budget that has not been checked yet may name both units, or none. */
type Given = {
  readonly budget: { readonly tokens?: number | undefined; readonly keep?: number | undefined };
  readonly recent?: number | undefined;
  readonly groupReduce: HeadReduce;
  readonly evicts: 'everyStep' | 'prefillEnd';
  readonly approximateSignal: boolean;
};

/** {@link H2oOptions}, checked and complete; without `recent` it is half of the budget. */
export type H2oSettings = Omit<Given, 'budget' | 'recent'> & {
  readonly budget: Budget;
  readonly recent?: number;
};

const schema: z.ZodType<Given> = z.object({
  budget: z
    .object({ tokens: z.number().optional(), keep: z.number().optional() })
    .default({ tokens: 2048 }),
  recent: z.int().min(0).optional(),
  groupReduce: z.enum(['mean', 'max', 'sum', 'first']).default('mean'),
  evicts: z.enum(['everyStep', 'prefillEnd']).default('everyStep'),
  approximateSignal: z.boolean().default(false),
});

/** Our names, and the keys of the seed toolkit's `H2O_config.json`. */
export const reader: OptionsReader<Given> = {
  title: 'H2O',
  schema,
  aliases: { max_capacity_prompt: 'budget.tokens', window_size: 'recent' },
};

/** Checks options and fills in defaults. @throws AccelError `ERR_ACCEL_BUDGET`, `ERR_ACCEL_POLICY` */
export function settingsFrom(options: unknown): H2oSettings {
  const { budget: rows, recent, ...rest } = parseOptions(reader, options);
  const checked = budget(rows as Budget);
  if (recent !== undefined && 'tokens' in checked && recent > checked.tokens) {
    throw new AccelError(
      'ERR_ACCEL_BUDGET',
      `H2O: ${recent} recent rows do not fit a budget of ${checked.tokens} tokens. Raise the budget or lower recent.`,
    );
  }
  return { ...rest, budget: checked, ...(recent !== undefined && { recent }) };
}

/** What stays of a layer: `rows` rows of each head, the newest `recent` among them. */
export interface Limits {
  readonly rows: number;
  readonly recent: number;
}

/** {@link Limits} in a file. */
export const limitsSchema: z.ZodType<Limits> = z
  .strictObject({ rows: z.int().min(1), recent: z.int().min(0) })
  .refine(({ rows, recent }) => recent <= rows, 'recent rows are more than rows');

/** The limits of a stream that begins with a prompt of `tokens`; undefined when they depend on the prompt and there is none yet. */
export function limitsOf(settings: H2oSettings, tokens: number): Limits;
export function limitsOf(settings: H2oSettings, tokens?: number): Limits | undefined;
export function limitsOf(settings: H2oSettings, tokens?: number): Limits | undefined {
  const { budget: given } = settings;
  if ('tokens' in given) return split(given.tokens, settings.recent);
  return tokens === undefined ? undefined : split(resolveBudget(given, tokens), settings.recent);
}

/** Recent rows come first when there are not enough for both kinds. */
export function split(rows: number, recent: number = Math.floor(rows / 2)): Limits {
  return { rows, recent: Math.min(recent, rows) };
}
