import type { Allocator, BudgetPart } from '../../src/policy/allocate.js';
import type { MergePart, Merger } from '../../src/policy/merge.js';
import type { ChannelsPart } from '../../src/policy/channels.js';
import type { CodecPart } from '../../src/policy/codec.js';
import { freezePart, type Signal } from '../../src/policy/part.js';
import type { PrefillPart } from '../../src/policy/prefill.js';
import type { Selector, SelectPart } from '../../src/policy/select.js';

// Parts as the eleven methods describe themselves, without their work.

const onlyDescribed = (): never => {
  throw new Error('only described');
};

function select<
  Id extends string,
  N extends Signal,
  P extends SelectPart['positions'],
  E extends 'prefillEnd' | 'everyStep',
>(id: Id, needs: readonly N[], positions: P, evicts: E) {
  const create: () => Selector = onlyDescribed;
  const part = {
    id,
    slot: 'select',
    needs,
    provides: [],
    lossy: true,
    options: {},
    positions,
    evicts,
    create,
  } as const;
  return freezePart(part satisfies SelectPart<Id, N>);
}

export const snapkv = select('snapkv', ['observedWindow'], 'original', 'prefillEnd');
export const h2o = select('h2o', ['columnSums', 'decodeProbs'], 'original', 'everyStep');
export const l2compress = select('l2compress', [], 'original', 'everyStep');
export const streamingllm = select('streamingllm', [], 'cacheRelative', 'everyStep');
export const streamingllmOriginal = select('streamingllm', [], 'original', 'everyStep');

export const streamingllmBanded = freezePart({ ...streamingllm, prefill: 'banded' } as const);
/** Rows leave when a prompt ends, and one thing more that only attention over plain rows can do. */
export const streamingllmOnce = select('streamingllm', [], 'cacheRelative', 'prefillEnd');
export const streamingllmBandedOnce = freezePart({
  ...select('streamingllm', [], 'original', 'prefillEnd'),
  prefill: 'banded',
} as const);

/** SnapKV that compresses every turn. */
export const snapkvEvery = freezePart({ ...snapkv, turns: 'every' } as const);

/** H2O that was told to take what a sparse prefill leaves of its signal. */
export const h2oApproximate = freezePart({ ...h2o, lossy: 'approximateSignal' } as const);

export const pyramidkv: BudgetPart<'pyramidkv', never> = freezePart({
  id: 'pyramidkv',
  slot: 'budget',
  needs: [],
  provides: [],
  lossy: true,
  options: { beta: 20 },
  create: (): Allocator => {
    throw new Error('only described');
  },
});

export const cakekv: BudgetPart<'cakekv', 'observedWindow' | 'headStats'> = freezePart({
  id: 'cakekv',
  slot: 'budget',
  needs: ['observedWindow', 'headStats'],
  provides: [],
  lossy: true,
  options: {},
  create: (): Allocator => {
    throw new Error('only described');
  },
});

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

export const cam: MergePart<'cam', 'columnSums' | 'decodeProbs'> & { readonly at: 'decode' } =
  freezePart({
    id: 'cam',
    slot: 'merge',
    needs: ['columnSums', 'decodeProbs'],
    provides: [],
    lossy: true,
    options: {},
    recent: 64,
    at: 'decode',
    create: (): Merger => {
      throw new Error('only described');
    },
  });

function think<A extends boolean>(
  pairAligned: A,
): ChannelsPart<'think', 'observedWindow'> & { readonly pairAligned: A } {
  return freezePart({
    id: 'think',
    slot: 'channels',
    needs: ['observedWindow'],
    provides: [],
    lossy: true,
    options: { pairAligned },
    pairAligned,
    packedRows: 'reencode',
    observe: 32,
    recent: 32,
    kept: onlyDescribed,
    header: onlyDescribed,
    format: onlyDescribed,
    create: onlyDescribed,
  });
}

export const thinkFree = think(false);
export const thinkPairs = think(true);
/** Keys that have lost channels stay. */
export const thinkStays = freezePart({ ...thinkPairs, packedRows: 'forbidden' } as const);

export function codec<Id extends string, const R extends CodecPart['packedRows']>(
  id: Id,
  packedRows: R,
  residual: number,
): CodecPart<Id> & { readonly packedRows: R } {
  return freezePart({
    id,
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

export const kivi = codec('kivi', 'forbidden', 128);
export const kiviReencode = codec('kivi', 'reencode', 128);
export const kiviGroups = codec('kivi', 'wholeGroups', 128);
export const kiviResidual = codec('kivi', 'residualOnly', 128);
export const int8 = codec('int8', 'forbidden', 0);
