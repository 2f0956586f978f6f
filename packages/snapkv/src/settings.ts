import { budget, parseOptions, resolveBudget } from '@accel/core';
import type { Budget, OptionsReader } from '@accel/core';
import { z } from 'zod';
import type { Pool } from './pool.js';

/** Options of `snapkv`. */
export interface SnapkvOptions {
  /** Rows kept per layer and kv head, observation window included. Default `{ tokens: 1024 }`. */
  readonly budget?: Budget;
  /** Observation window: how many of the last queries vote; their own rows always stay. Default 32. */
  readonly observe?: number;
  /** How votes are spread over neighbouring keys; the size is odd. Default `{ kind: 'avg', size: 5 }`. */
  readonly pool?: { readonly kind?: Pool['kind']; readonly size?: number };
  /** How the query heads of a group share their kv head's votes, before pooling. Default `'mean'`. */
  readonly groupReduce?: 'mean' | 'max' | 'sum';
  /** Compress at the end of the first prompt only, as published, or of every turn. Default `'first'`. */
  readonly turns?: 'first' | 'every';
}

/** {@link SnapkvOptions}, checked and complete; a type, not an interface, so that it counts as JSON. */
export type SnapkvSettings = {
  readonly budget: Budget;
  readonly observe: number;
  readonly pool: { readonly kind: 'avg' | 'max'; readonly size: number };
  readonly groupReduce: 'mean' | 'max' | 'sum';
  readonly turns: 'first' | 'every';
};

/** The options as written: a budget that has not been checked yet may name both units, or none. */
type Given = Omit<SnapkvSettings, 'budget'> & {
  readonly budget: { readonly tokens?: number | undefined; readonly keep?: number | undefined };
};

const schema: z.ZodType<Given> = z.object({
  budget: z
    .object({ tokens: z.number().optional(), keep: z.number().optional() })
    .default({ tokens: 1024 }),
  observe: z.int().min(1).default(32),
  pool: z
    .object({
      kind: z.enum(['avg', 'max']).default('avg'),
      size: z
        .int()
        .min(1)
        .refine((size) => size % 2 === 1, 'must be odd: an even kernel has no middle')
        .default(5),
    })
    .prefault({}),
  groupReduce: z.enum(['mean', 'max', 'sum']).default('mean'),
  turns: z.enum(['first', 'every']).default('first'),
});

/** Our names, and the keys of the seed toolkit's `SnapKV_config.json`. */
export const reader: OptionsReader<Given> = {
  title: 'SnapKV',
  schema,
  aliases: {
    max_capacity_prompt: 'budget.tokens',
    window_size: 'observe',
    kernel_size: 'pool.size',
    pooling: { to: 'pool.kind', convert: (name) => POOLINGS.get(name) ?? name },
  },
};
const POOLINGS = new Map<unknown, string>([
  ['avgpool', 'avg'],
  ['maxpool', 'max'],
]);

/** Checks options and fills in defaults. @throws AccelError `ERR_ACCEL_BUDGET`, `ERR_ACCEL_POLICY` */
export function settingsFrom(options: unknown): SnapkvSettings {
  const parsed = parseOptions(reader, options);
  const { observe } = parsed;
  return {
    ...parsed,
    budget: budget(parsed.budget as Budget, {
      minimum: observe + 1,
      reason: `the observation window of ${observe} and one row that is chosen`,
    }),
  };
}

/** Rows to keep of a stream of `seen` tokens. A share of a short prompt never goes below the window and one row more. */
export function capacityOf({ budget: rows, observe }: SnapkvSettings, seen: number): number {
  return 'tokens' in rows ? rows.tokens : Math.max(resolveBudget(rows, seen), observe + 1);
}
