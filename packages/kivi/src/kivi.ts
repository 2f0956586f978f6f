import { freezePart, type CodecPart } from '@accel/core';
import { kiviFormat } from './format.js';
import { settingsFrom, type KiviOptions } from './settings.js';

/** The part that {@link kivi} returns. */
export interface KiviPart extends CodecPart<'kivi'> {
  readonly packedRows: 'forbidden';
}

/**
 * KIVI (Liu et al., ICML 2024, arXiv 2402.02750). Old rows of the cache become codes of 2, 4 or 8 bits: keys in groups along
 * the rows of a channel, values in groups along the channels of a row. The newest rows stay as they are. Attention reads the
 * codes; a prompt attends before its rows are packed.
 *
 * @throws AccelError `ERR_ACCEL_POLICY` for an option that is out of range
 * @example
 * const sequence = model.sequence({ policy: compose(kivi({ bits: 2 })) });
 */
export function kivi(options: KiviOptions = {}): KiviPart {
  const settings = settingsFrom(options);
  return freezePart({
    id: 'kivi',
    slot: 'codec',
    needs: [],
    provides: [],
    lossy: true,
    packedRows: 'forbidden',
    residual: settings.residual,
    options: settings,
    format: (setup) => kiviFormat(settings, setup),
  } satisfies KiviPart);
}
