import { AccelError, parseOptions, type OptionsReader } from '@accel/core';
import { z } from 'zod';

/** Bits of a code. */
export type Bits = 2 | 4 | 8;

/** Options of `kivi`. */
export interface KiviOptions {
  /**
   * Bits of keys and values: 2, 4 or 8. `'auto'` is what the authors advise: 4 for models whose query heads share keys (GQA,
   * MQA), 2 for others. Default `'auto'`.
   */
  readonly bits?: Bits | 'auto';
  /** Bits of keys, where they differ. Default: `bits`. */
  readonly keyBits?: Bits;
  /** Bits of values, where they differ. Default: `bits`. */
  readonly valueBits?: Bits;
  /**
   * Numbers that share a scale and a minimum: rows of a key channel, channels of a value row. 16, 32, 64 or 128, and a divisor
   * of the head dimension. Default 32.
   */
  readonly group?: 16 | 32 | 64 | 128;
  /**
   * Newest values that stay plain, and keys that are packed at a time; a multiple of the group. So the newest rows stay plain,
   * up to this many keys. Default 128.
   */
  readonly residual?: number;
  /**
   * At least one key stays plain. As published (`false`) a prompt of a multiple of `residual` tokens leaves none. Default true.
   */
  readonly guarded?: boolean;
}

/** {@link KiviOptions}, checked and complete; a type, not an interface, so that it counts as JSON. */
export type KiviSettings = {
  readonly bits: Bits | 'auto';
  readonly keyBits?: Bits | undefined;
  readonly valueBits?: Bits | undefined;
  readonly group: 16 | 32 | 64 | 128;
  readonly residual: number;
  readonly guarded: boolean;
};

const bits = z.literal([2, 4, 8]);
const schema: z.ZodType<KiviSettings> = z.object({
  bits: z.literal([2, 4, 8, 'auto']).default('auto'),
  keyBits: bits.optional(),
  valueBits: bits.optional(),
  group: z.literal([16, 32, 64, 128]).default(32),
  residual: z.int().min(1).default(128),
  guarded: z.boolean().default(true),
});

/** Our names, and the keys of the seed toolkit's `kivi_config.json`. */
export const reader: OptionsReader<KiviSettings> = {
  title: 'KIVI',
  schema,
  aliases: {
    k_bits: 'keyBits',
    v_bits: 'valueBits',
    group_size: 'group',
    residual_length: 'residual',
    use_flash: { ignored: 'attention is always computed tile by tile' },
    use_sdqa: { ignored: 'attention always reads codes directly' },
  },
};

/** Checks options and fills in defaults. @throws AccelError `ERR_ACCEL_POLICY` */
export function settingsFrom(options: unknown): KiviSettings {
  const settings = parseOptions(reader, options);
  const { group, residual } = settings;
  if (residual % group !== 0) {
    throw new AccelError(
      'ERR_ACCEL_POLICY',
      `KIVI: residual ${residual} must be a multiple of the group, ${group}: keys are packed in whole groups.`,
    );
  }
  return settings;
}
