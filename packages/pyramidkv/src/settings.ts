import { parseOptions, type JsonObject, type OptionsReader } from '@accel/core';
import { method as snapkv } from '@accel/snapkv';
import { z } from 'zod';
import type { PyramidMode } from './budgets.js';

/** Options of `pyramidkv`. The budget is the select part's: what it would keep in every layer is the average here. */
export interface PyramidkvOptions {
  /** How steep the pyramid is: the last layer gets 1/beta of the average. 1 is no pyramid. Default 20. */
  readonly beta?: number;
  /**
   * `exact`: the paper's line, rounded so that the sum over layers is the budget. `reference`: the authors' integer
   * arithmetic, bit for bit, which spends up to a third more in deep models with small budgets. `kvpress`: the form of
   * NVIDIA/kvpress, where the window counts as budgeted. Default `'exact'`.
   */
  readonly mode?: PyramidMode;
}

/** {@link PyramidkvOptions}, complete; a type, not an interface, so that it counts as JSON. */
export type PyramidkvSettings = { readonly beta: number; readonly mode: PyramidMode };

const own = {
  // Above, products of beta and row numbers would no longer be exact.
  beta: z.int().min(1).max(10_000).default(20),
  mode: z.enum(['exact', 'reference', 'kvpress']).default('exact'),
};

const reader: OptionsReader<PyramidkvSettings> = { title: 'PyramidKV', schema: z.object(own) };

/** Checks options and fills in defaults. @throws AccelError `ERR_ACCEL_POLICY` */
export function settingsFrom(options: unknown): PyramidkvSettings {
  return parseOptions(reader, options);
}

/** A config holds the options of the selection too, which are SnapKV's, and may use the keys of the seed toolkit. */
type Config = PyramidkvSettings & JsonObject;

if (!(snapkv.options instanceof z.ZodObject)) throw new TypeError('SnapKV has options by name');

/** Our names, SnapKV's, and the keys of the seed toolkit's `pyramidkv_config.json`. */
export const configReader: OptionsReader<Config> = {
  title: 'PyramidKV',
  schema: z.object({ ...own, ...snapkv.options.shape }),
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

/** Splits a config into the options of the two parts. @throws AccelError `ERR_ACCEL_POLICY` */
export function splitConfig(config: JsonObject): {
  readonly budget: PyramidkvSettings;
  readonly select: JsonObject;
} {
  const { beta, mode, ...select } = parseOptions(configReader, config);
  return { budget: { beta, mode }, select };
}
