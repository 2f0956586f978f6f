import { AccelError, parseOptions, type OptionsReader } from '@accel/core';
import { z } from 'zod';

/** Tokens between sampled antidiagonals. */
export type Stride = 4 | 8 | 16 | 32 | 64;

/** Options of `xattention`. */
export interface XattentionOptions {
  /** Edge of the squares that give one antidiagonal each; the estimate costs 1 / stride of the scores. Default 16. */
  readonly stride?: Stride;
  /** Share of a row's estimated attention that its blocks must hold, 0 to 1. Default 0.9. */
  readonly threshold?: number;
  /** Shares for every layer and query head, `[layers][heads]`, instead of `threshold`; from a plan, for example. */
  readonly thresholds?: readonly (readonly number[])[];
  /** Another divisor of the estimate's logits. Default 1. */
  readonly norm?: number;
  /**
   * `'clean'`: every row of blocks but the first is forced to have column 0 and the diagonal, and takes the fewest others that
   * reach the threshold. `'compat'`: rows in the first `chunk` tokens are forced to have the diagonal only and take one block
   * more than needed, as the authors' code does. Default `'clean'`.
   */
  readonly mode?: 'clean' | 'compat';
  /** Tokens of the first chunk in mode `'compat'`, a multiple of 128. Default 2048. */
  readonly chunk?: number;
  /** Prompts of up to so many tokens attend densely. Default 2048 in mode `'clean'`, 0 in `'compat'`. */
  readonly dense?: number;
}

/** {@link XattentionOptions}, checked and complete; a type, not an interface, so that it counts as JSON. */
export type XattentionSettings = {
  readonly stride: Stride;
  readonly threshold: number;
  readonly thresholds?: readonly (readonly number[])[] | undefined;
  readonly norm: number;
  readonly mode: 'clean' | 'compat';
  readonly chunk?: number | undefined;
  readonly dense: number;
};

/** What the schema makes of options: the default of `dense` depends on the mode. */
type Given = Omit<XattentionSettings, 'dense'> & { readonly dense?: number | undefined };

const FIRST_CHUNK = 2048;
const share = z.number().min(0).max(1);
const schema: z.ZodType<Given> = z.object({
  stride: z.literal([4, 8, 16, 32, 64]).default(16),
  threshold: share.default(0.9),
  thresholds: z.array(z.array(share).min(1)).min(1).optional(),
  norm: z.number().positive().default(1),
  mode: z.enum(['clean', 'compat']).default('clean'),
  chunk: z.int().min(128).multipleOf(128).optional(),
  dense: z.int().min(0).optional(),
});

/** Our names, and the keys of the seed toolkit's `xattn_config.json` and of the authors' config. */
export const reader: OptionsReader<Given> = {
  title: 'XAttention',
  schema,
  aliases: {
    keep_sink: { ignored: 'the first block column is always computed' },
    keep_recent: { ignored: 'the diagonal is always computed' },
    chunk_size: {
      ignored:
        'memory is bounded without it, and masks do not depend on it; `chunk` with `mode: compat` gives the masks of the original',
    },
    use_triton: { ignored: 'it chose a code path; there is one estimator, on every device' },
    // The rest of a plan that `accel calibrate xattention` wrote, so that its file is a config.
    schema: { ignored: 'it names the format of a plan' },
    model: {
      ignored: 'the shape of thresholds is checked against the model that they are used with',
    },
    coverage: { ignored: 'the thresholds were found with it' },
    provenance: { ignored: 'it says how the thresholds were found' },
  },
};

/** Checks options and fills in defaults. @throws AccelError `ERR_ACCEL_POLICY` */
export function settingsFrom(options: unknown): XattentionSettings {
  const { dense, chunk, ...given } = parseOptions(reader, options);
  if (given.mode === 'clean') {
    if (chunk !== undefined) {
      throw new AccelError(
        'ERR_ACCEL_POLICY',
        "XAttention: chunk has a meaning in mode 'compat' only, where rows of the first chunk follow a rule of their own.",
      );
    }
    return { ...given, dense: dense ?? 2048 };
  }
  return { ...given, chunk: chunk ?? FIRST_CHUNK, dense: dense ?? 0 };
}
