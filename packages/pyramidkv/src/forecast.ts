import type { LayerForecast, ShareForecast } from '@accel/core';
import { fitRows, pyramidRows } from './budgets.js';
import type { PyramidkvSettings } from './settings.js';

/** The shares that `PyramidAllocator` gives the layers of a first prompt: they depend on its length alone. */
export function forecastShares(
  { beta, mode }: PyramidkvSettings,
  tokens: number,
  capacities: readonly NonNullable<LayerForecast['capacity']>[],
): ShareForecast {
  const whole = ({ rows, window }: { rows: number; window: number }): boolean =>
    rows >= tokens || rows <= window;
  // The plan is made for the first layer that is cut and those after it.
  const first = capacities.findIndex((capacity) => !whole(capacity));
  const layers = capacities.length - first;
  const { rows: capacity = 0, window = 0 } = capacities[first] ?? {};
  const plan = first < 0 ? [] : pyramidRows({ capacity, window, rows: tokens, layers, beta }, mode);
  const available = new Array<number>(layers).fill(tokens);
  const fitted = mode === 'exact' ? fitRows(plan, available) : plan;
  const shares = capacities.map((own, layer) => ({
    rows: whole(own) ? own.rows : (fitted[layer - first] ?? own.rows),
  }));
  return { later: false, steps: shares.map((_, layer) => shares.slice(0, layer + 1)) };
}
