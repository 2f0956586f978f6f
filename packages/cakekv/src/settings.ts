import { AccelError, budget, parseOptions, resolveBudget } from '@accel/core';
import type { Budget, OptionsReader } from '@accel/core';
import { z } from 'zod';
import { tunedTaus } from './taus.js';

/** Options of `cakeBudget`. */
export interface CakeBudgetOptions {
  /** Observation window: how many of the last queries the statistics are of, at least 2. Default 32. */
  readonly observe?: number;
  /** Temperature of the dispersion: a layer's preference is dispersion^(1/τ1) · shift^(1/τ2). Default 1. */
  readonly tau1?: number;
  /** Temperature of the shift. Default 1. See {@link tunedTaus} for the authors' values. */
  readonly tau2?: number;
  /** Allocate after every layer, which bounds the cache during the prompt, or once after the last. Default true. */
  readonly cascading?: boolean;
}

/** Options of `cakekv`. */
export interface CakekvOptions extends CakeBudgetOptions {
  /**
   * Rows kept per layer and kv head on average over the layers, observation window included; a share is of the tokens
   * seen. Default `{ tokens: 1024 }`.
   */
  readonly budget?: Budget;
  /** Weight of the variance in a row's score, which is mean + gamma · variance of its attention. Default 200. */
  readonly gamma?: number;
  /** Neighbouring rows that scores are averaged over; odd, 1 changes nothing. Default 5. */
  readonly pool?: number;
  /**
   * What is a neighbour while decoding: the rows at the nearest positions, or, as an accident of the original's storage,
   * those with the nearest scores. Default `'positional'`.
   */
  readonly decodeOrder?: 'positional' | 'reference';
}

/** {@link CakekvOptions}, checked and complete; a type, not an interface, so that it counts as JSON. */
export type CakekvSettings = Required<{
  readonly [K in keyof CakekvOptions]: NonNullable<CakekvOptions[K]>;
}>;

/** The options as written: a budget that has not been checked yet may name both units, or none. */
type Given = Omit<CakekvSettings, 'budget'> & {
  readonly budget: { readonly tokens?: number | undefined; readonly keep?: number | undefined };
};

const temperature = z.number().positive('must be above 0').default(1);
const allocation = {
  observe: z.int().min(2, 'must be at least 2: one row has no variance').default(32),
  tau1: temperature,
  tau2: temperature,
  // The seed toolkit writes its flags as strings.
  cascading: z.preprocess(flag, z.boolean().default(true)),
};
const schema: z.ZodType<Given> = z.object({
  budget: z
    .object({ tokens: z.number().optional(), keep: z.number().optional() })
    .default({ tokens: 1024 }),
  ...allocation,
  gamma: z.number().min(0).default(200),
  pool: z
    .int()
    .min(1)
    .max(127)
    .refine((size) => size % 2 === 1, 'must be odd: an even kernel has no middle')
    .default(5),
  decodeOrder: z.enum(['positional', 'reference']).default('positional'),
});

/** Our names, and the keys of the seed toolkit's `cake_config.json`. */
export const reader: OptionsReader<Given> = {
  title: 'CakeKV',
  schema,
  aliases: {
    cache_size: 'budget.tokens',
    window_size: 'observe',
    compress: { ignored: 'a policy with CakeKV compresses; the value False is refused' },
    model_name: { ignored: 'it chooses tau1 and tau2 before the options are read' },
  },
};

/** The options of the allocation alone. */
const allocationReader: OptionsReader<CakeBudgetOptions> = {
  title: 'CakeKV (budget)',
  schema: z.object(allocation),
};

/** Checks options and fills in defaults. @throws AccelError `ERR_ACCEL_BUDGET`, `ERR_ACCEL_POLICY` */
export function settingsFrom(options: unknown): CakekvSettings {
  const parsed = parseOptions(reader, withTaus(options));
  return {
    ...parsed,
    budget: budget(parsed.budget as Budget, {
      minimum: parsed.observe + 1,
      reason: `the observation window of ${parsed.observe} and one row that is chosen`,
    }),
  };
}

/** Rows per layer on average, of a stream of `seen` tokens. A share of a short prompt never goes below the window and one row more. */
export function capacityOf({ budget: rows, observe }: CakekvSettings, seen: number): number {
  return 'tokens' in rows ? rows.tokens : Math.max(resolveBudget(rows, seen), observe + 1);
}

/** {@link settingsFrom} for options of the allocation alone; the others have their defaults, and no effect. */
export function allocationSettingsFrom(options: unknown): CakekvSettings {
  const { observe = 32, ...parsed } = parseOptions(allocationReader, options);
  // Not used by the allocation; valid for every window.
  return settingsFrom({ ...parsed, observe, budget: { tokens: Math.max(1024, observe + 1) } });
}

/** What the seed toolkit does before it reads its options: a switch, and a table of temperatures by model. */
function withTaus(options: unknown): unknown {
  if (typeof options !== 'object' || options === null || Array.isArray(options)) return options;
  const given = options as Readonly<Record<string, unknown>>;
  if (given.compress !== undefined && flag(given.compress) !== true) {
    throw refuse('compress', 'must be True; to compress nothing, leave CakeKV out of the policy');
  }
  const { model_name: model } = given;
  if (model === undefined) return options;
  if (typeof model !== 'string') throw refuse('model_name', 'must be a name');
  if (given.tau1 !== undefined || given.tau2 !== undefined) {
    throw refuse(
      'model_name',
      'chooses tau1 and tau2, which the config gives too; keep one of them',
    );
  }
  const own = given.budget as { tokens?: unknown } | undefined;
  return { ...given, ...tunedTaus(model, given.cache_size ?? own?.tokens ?? 1024) };
}

function flag(value: unknown): unknown {
  return value === 'True' ? true : value === 'False' ? false : value;
}

function refuse(option: string, problem: string): AccelError {
  return new AccelError('ERR_ACCEL_POLICY', `CakeKV: ${option} ${problem}.`);
}
