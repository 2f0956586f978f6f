import { AccelError, type ModelSpec } from '@accel/core';
import type { KvItems } from '@accel/kernels';
import type { Bits, KiviSettings } from './settings.js';

/** How rows are packed: what the ops are told. */
export interface KiviLayout {
  readonly keyBits: Bits;
  readonly valueBits: Bits;
  readonly group: number;
  /** Channels of a key that are kept. */
  readonly channels: number;
}

/** Rows of a value item. */
const VALUE_ROWS = 16;

/** Bytes of a key item: codes of `group` rows, and a scale and a minimum, 2 bytes each, for each channel of whole steps of 16. */
function keyItemBytes({ keyBits, group, channels }: KiviLayout): number {
  const padded = Math.ceil(channels / 16) * 16;
  return (group * padded * keyBits) / 8 + 4 * padded;
}

/** Bytes of a value item: codes of 16 rows, and a scale and a minimum for each group of channels of a row. */
function valueItemBytes({ valueBits, group }: KiviLayout, headDim: number): number {
  return (VALUE_ROWS * headDim * valueBits) / 8 + (4 * VALUE_ROWS * headDim) / group;
}

/** The same layout as `kernels/kivi_layout.h` computes. @param header bytes in front of a head's keys */
export function itemsOf(
  layout: KiviLayout,
  headDim: number,
  header: number,
): { readonly keys: KvItems; readonly values: KvItems } {
  return {
    keys: { rows: layout.group, bytes: keyItemBytes(layout), header },
    values: { rows: VALUE_ROWS, bytes: valueItemBytes(layout, headDim) },
  };
}

/**
 * The layout for a model.
 * @throws AccelError `ERR_ACCEL_POLICY` when the group does not divide the head dimension
 */
export function layoutFor(
  { bits, keyBits, valueBits, group }: KiviSettings,
  { heads, kvHeads, headDim }: Pick<ModelSpec, 'heads' | 'kvHeads' | 'headDim'>,
  channels: number,
): KiviLayout {
  if (headDim % group !== 0) {
    throw new AccelError(
      'ERR_ACCEL_POLICY',
      `KIVI: the head dimension ${headDim} must be a multiple of the group, ${group}. Choose a smaller group.`,
    );
  }
  const both = bits === 'auto' ? (heads > kvHeads ? 4 : 2) : bits;
  return { keyBits: keyBits ?? both, valueBits: valueBits ?? both, group, channels };
}
