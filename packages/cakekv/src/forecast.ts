import type { Allotment, LayerForecast, ShareForecast } from '@accel/core';
import { allocate } from './allocation.js';
import type { CakekvSettings } from './settings.js';

/**
 * The shares that `CakeAllocator` gives when all layers prefer alike. Preferences move rows between layers: their sum, and with
 * it the cache's size, hardly depends on them.
 */
export function forecastShares(
  { cascading }: Pick<CakekvSettings, 'cascading'>,
  tokens: number,
  capacities: readonly NonNullable<LayerForecast['capacity']>[],
): ShareForecast {
  const shares: Allotment[] = [];
  const sharing: number[] = [];
  const steps = capacities.map(({ rows: average, window }, layer) => {
    const fits = tokens <= average + window;
    shares.push(fits ? { rows: tokens, decode: average } : { rows: tokens });
    if (!fits) sharing.push(layer);
    const last = layer === capacities.length - 1;
    if (sharing.length > 0 && (last || (cascading && !fits))) {
      const exempt = layer + 1 - sharing.length;
      const total = (average - window) * (capacities.length - exempt);
      const past = allocate(new Array<number>(sharing.length).fill(1), total, tokens - window);
      for (const [i, index] of sharing.entries()) {
        const budget = (past[i] ?? 0) + window;
        shares[index] = { rows: budget, decode: budget };
      }
    }
    return [...shares];
  });
  return { later: true, steps };
}
