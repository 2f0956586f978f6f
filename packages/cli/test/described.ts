import { freezePart, type ChannelsPart, type CodecPart, type PrefillPart } from '@accel/core';

// Parts of methods whose packages do not exist yet, as these will describe themselves: enough to be composed, not to run.

function prefill<Id extends string>(id: Id): PrefillPart<Id, 'observedWindow' | 'headStats'> {
  return freezePart({
    id,
    slot: 'prefill',
    needs: [],
    provides: ['observedWindow', 'headStats'],
    lossy: true,
    options: {},
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
  });
}
