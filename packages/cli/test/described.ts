import { freezePart, type ChannelsPart, type CodecPart, type PrefillPart } from '@accel/core';

// Parts as methods would describe themselves whose packages do not exist yet, or do not do this yet: enough to be composed,
// not to run.

const onlyDescribed = (): never => {
  throw new Error('only described');
};

function prefill<Id extends string>(id: Id): PrefillPart<Id, 'observedWindow' | 'headStats'> {
  return freezePart({
    id,
    slot: 'prefill',
    needs: [],
    provides: ['observedWindow', 'headStats'],
    lossy: true,
    options: {},
    figures: ['recall'],
    create: onlyDescribed,
  });
}

export const flexprefill = prefill('flexprefill');
export const xattention = prefill('xattention');

/** Channels chosen one by one. */
export const think: ChannelsPart<'think', 'observedWindow'> & { readonly pairAligned: false } =
  freezePart({
    id: 'think',
    slot: 'channels',
    needs: ['observedWindow'],
    provides: [],
    lossy: true,
    options: {},
    pairAligned: false,
    packedRows: 'reencode',
    observe: 32,
    recent: 32,
    kept: onlyDescribed,
    header: onlyDescribed,
    format: onlyDescribed,
    create: onlyDescribed,
  });

/** KIVI with its newest `residual` rows unpacked. */
export function kivi<const R extends CodecPart['packedRows']>(
  packedRows: R,
  residual = 128,
): CodecPart<'kivi'> & { readonly packedRows: R } {
  return freezePart({
    id: 'kivi',
    slot: 'codec',
    needs: [],
    provides: [],
    lossy: true,
    options: { packedRows, residual },
    packedRows,
    residual,
    format: onlyDescribed,
  });
}
