import { freezePart, type OptionOf, type SelectPart } from '@accel/core';
import { SnapkvSelector } from './selector.js';
import { capacityOf, settingsFrom, type SnapkvOptions } from './settings.js';

/** The part that {@link snapkv} returns, with what its options `O` say about later turns. */
export interface SnapkvPart<O extends SnapkvOptions = SnapkvOptions> extends SelectPart<
  'snapkv',
  'observedWindow'
> {
  readonly turns: OptionOf<O, 'turns', 'first'>;
}

/**
 * SnapKV (Li et al., NeurIPS 2024, arXiv 2404.14469). When a layer has finished a prompt, the last `observe` queries
 * vote: what attention they give to an earlier key, summed and pooled over neighbouring keys, is its score. The best
 * `budget - observe` keys and the window itself stay. Nothing is evicted while decoding.
 *
 * @throws AccelError `ERR_ACCEL_BUDGET` if the budget does not exceed the window, `ERR_ACCEL_POLICY` for an option
 *   that is out of range, for example an even pool size
 * @example
 * const sequence = model.sequence({ policy: compose(snapkv({ budget: { tokens: 512 } })) });
 */
export function snapkv<const O extends SnapkvOptions = object>(options?: O): SnapkvPart<O> {
  const settings = settingsFrom(options ?? {});
  const part = freezePart({
    id: 'snapkv',
    slot: 'select',
    needs: ['observedWindow'],
    provides: [],
    lossy: true,
    positions: 'original',
    evicts: 'prefillEnd',
    turns: settings.turns,
    observe: settings.observe,
    options: settings,
    forecast: ({ tokens }) => {
      const rows = capacityOf(settings, tokens);
      return { rows, capacity: { rows, window: Math.min(settings.observe, tokens) } };
    },
    create: (setup) => new SnapkvSelector(setup, settings),
  } satisfies SnapkvPart);
  // What the conditional type says is what the settings were read from.
  return part as unknown as SnapkvPart<O>;
}
