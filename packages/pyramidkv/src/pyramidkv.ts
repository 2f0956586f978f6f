import { freezePart, type BudgetPart } from '@accel/core';
import { PyramidAllocator } from './allocator.js';
import { forecastShares } from './forecast.js';
import { settingsFrom, type PyramidkvOptions } from './settings.js';

/** The part that {@link pyramidkv} returns. */
export type PyramidkvPart = BudgetPart<'pyramidkv', never>;

/**
 * PyramidKV (Cai et al. 2024, arXiv 2406.02069). Attention is spread wide in early layers and gathers on few tokens in
 * late ones, so early layers keep more rows: numbers fall linearly with depth around the select part's budget. Which
 * rows stay is the select part's choice; the paper takes SnapKV's scores.
 *
 * @throws AccelError `ERR_ACCEL_POLICY` for an option that is out of range
 * @example
 * const policy = compose(snapkv({ budget: { tokens: 512 }, observe: 8 }), pyramidkv());
 */
export function pyramidkv(options: PyramidkvOptions = {}): PyramidkvPart {
  const settings = settingsFrom(options);
  return freezePart({
    id: 'pyramidkv',
    slot: 'budget',
    needs: [],
    provides: [],
    lossy: true,
    options: settings,
    forecast: ({ tokens }, capacities) => forecastShares(settings, tokens, capacities),
    create: ({ spec }) => new PyramidAllocator(spec.layers, settings),
  } satisfies PyramidkvPart);
}
