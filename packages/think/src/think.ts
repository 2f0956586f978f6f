import { freezePart, type ChannelsPart } from '@accel/core';
import { ThinkChannels } from './channels.js';
import { thinkFormat } from './format.js';
import { headerBytes } from './layout.js';
import { channelsOf, settingsFrom, type ThinkOptions } from './settings.js';

/** The part that {@link think} returns. */
export type ThinkPart = ChannelsPart<'think', 'observedWindow'> & {
  readonly pairAligned: false;
  readonly packedRows: 'forbidden';
};

/**
 * ThinK (Xu et al., ICLR 2025, arXiv 2407.21018). When a layer has finished the first prompt and its rows are chosen, its keys
 * lose, kv head by kv head, the channels in which the last queries and the keys have the least energy; the newest rows and all
 * that come later keep theirs. Beside a codec any key loses channels when it is packed, and the newest are not packed.
 * Values are untouched. Memory of the lost channels is freed.
 *
 * @throws AccelError `ERR_ACCEL_POLICY` for an option that is out of range, for example a ratio of 1
 * @example
 * const sequence = model.sequence({ policy: compose(snapkv({ budget: { tokens: 512 } }), think()) });
 */
export function think(options: ThinkOptions = {}): ThinkPart {
  const settings = settingsFrom(options);
  return freezePart({
    id: 'think',
    slot: 'channels',
    needs: ['observedWindow'],
    provides: [],
    lossy: true,
    pairAligned: false,
    packedRows: 'forbidden',
    observe: settings.observe,
    recent: settings.recent,
    options: settings,
    kept: (spec) => channelsOf(settings, spec),
    header: (spec) => headerBytes(channelsOf(settings, spec)),
    format: (setup) => thinkFormat(settings, setup),
    create: (setup) => new ThinkChannels(setup, settings),
  } satisfies ThinkPart);
}
