import { parseOptions, type ModelSpec, type OptionsReader } from '@accel/core';
import { AccelError } from '@accel/kernels';
import { z } from 'zod';

/** Options of `think`. */
export interface ThinkOptions {
  /** Share of key channels that old rows lose, from 0 up to but not including 1. Default 0.4. */
  readonly ratio?: number;
  /**
   * Newest rows of the prompt whose keys keep all channels; those of later tokens do so too. Default 32. Beside a codec keys of later
   * tokens lose channels as well, once they are packed; it leaves so many newest keys plain, at every step.
   */
  readonly recent?: number;
  /** Last queries of the prompt that say how much a channel matters. Default 32. */
  readonly observe?: number;
  /** How the query heads of a group share their kv head's channels: by the mean of their squares, or the largest. Default `'mean'`. */
  readonly groupReduce?: 'mean' | 'max';
  /** Keep a multiple of 16 channels, rounded up; tensor cores then have nothing to fill with zeros. Default false. */
  readonly aligned?: boolean;
}

/** {@link ThinkOptions}, checked and complete; a type, not an interface, so that it counts as JSON. */
export type ThinkSettings = Required<{
  readonly [K in keyof ThinkOptions]: NonNullable<ThinkOptions[K]>;
}>;

const schema: z.ZodType<ThinkSettings> = z.object({
  ratio: z.number().min(0).lt(1, 'must be below 1: some channels have to stay').default(0.4),
  recent: z.int().min(0).default(32),
  observe: z.int().min(1).default(32),
  groupReduce: z.enum(['mean', 'max']).default('mean'),
  aligned: z.boolean().default(false),
});

/** Our names, and the keys that are ThinK's own in configs of the seed toolkit and of KVCache-Factory. */
export const reader: OptionsReader<ThinkSettings> = {
  title: 'ThinK',
  schema,
  aliases: { recent_size: 'recent', pruning_ratio: 'ratio' },
};

/** Checks options and fills in defaults. @throws AccelError `ERR_ACCEL_POLICY` */
export function settingsFrom(options: unknown): ThinkSettings {
  return parseOptions(reader, options);
}

/** Channels that keys of `headDim` keep: `headDim - trunc(headDim · ratio)`, at least 1. */
export function keptChannels(
  { ratio, aligned }: Pick<ThinkSettings, 'ratio' | 'aligned'>,
  headDim: number,
): number {
  const kept = headDim - Math.trunc(headDim * ratio);
  return aligned ? Math.min(headDim, Math.ceil(kept / 16) * 16) : kept;
}

/**
 * The same for a model that is to be run.
 * @throws AccelError `ERR_ACCEL_POLICY` when a ratio was asked for and no channel would go: rows would be rewritten for nothing
 */
export function channelsOf(
  settings: Pick<ThinkSettings, 'ratio' | 'aligned'>,
  { headDim }: Pick<ModelSpec, 'headDim'>,
): number {
  const kept = keptChannels(settings, headDim);
  if (settings.ratio === 0 || kept < headDim) return kept;
  throw new AccelError(
    'ERR_ACCEL_POLICY',
    `ThinK with ratio ${settings.ratio}${settings.aligned ? ' and aligned' : ''} keeps all ${headDim} channels of a head, so nothing would be pruned. Raise ratio${settings.aligned ? ', set aligned: false,' : ''} or leave ThinK out.`,
  );
}
