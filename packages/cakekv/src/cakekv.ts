import { freezePart, parseSaved, type BudgetPart, type SelectPart } from '@accel/core';
import { z } from 'zod';
import { CakeAllocator } from './allocator.js';
import { forecastShares } from './forecast.js';
import { CakeSelector } from './selector.js';
import {
  allocationSettingsFrom,
  capacityOf,
  reader,
  settingsFrom,
  type CakeBudgetOptions,
  type CakekvOptions,
  type CakekvSettings,
} from './settings.js';

/** The part that {@link cakeBudget} returns. */
export type CakeBudgetPart = BudgetPart<'cakekv', 'observedWindow' | 'headStats'>;
/** The selection of {@link cakekv}. */
export type CakeSelectPart = SelectPart<
  'cakekv',
  'observedWindow' | 'headStats' | 'decodeProbs'
> & {
  readonly evicts: 'everyStep';
};
/** Both parts of CakeKV, to be spread into `compose`. */
export type CakekvParts = readonly [budget: CakeBudgetPart, select: CakeSelectPart];

/**
 * CakeKV, or CAKE (Qin et al., ICLR 2025, arXiv 2503.12491): layers share the cache by how widely and how variably the last
 * queries of the prompt attend, and in each layer the rows stay that these queries attend to most or most variably. While
 * decoding, one row leaves each full layer at every token.
 *
 * @returns a budget part and a select part, to be spread; the latter also works alone, with equal budgets
 * @throws AccelError `ERR_ACCEL_BUDGET` if the budget does not exceed the window, `ERR_ACCEL_POLICY` for an option that is
 *   out of range, for example a window of 1
 * @example
 * const sequence = model.sequence({ policy: compose(...cakekv({ budget: { tokens: 1024 } })) });
 */
export function cakekv(options: CakekvOptions = {}): CakekvParts {
  const settings = settingsFrom(options);
  return Object.freeze([budgetPart(settings), selectPart(settings)] as const);
}

/**
 * CakeKV's allocation of rows to layers alone, for a selector of another method. That selector's own budget is the average
 * over the layers.
 *
 * @throws AccelError `ERR_ACCEL_POLICY` for an option that is out of range
 * @example
 * compose(snapkv({ budget: { tokens: 1024 } }), cakeBudget())
 */
export function cakeBudget(options: CakeBudgetOptions = {}): CakeBudgetPart {
  return budgetPart(allocationSettingsFrom(options));
}

/** What an allocator remembers, in a file: rows that layers may hold. */
const budgetsSchema = z.array(z.tuple([z.int().min(0).max(65535), z.int().min(1)]));

function budgetPart(settings: CakekvSettings): CakeBudgetPart {
  return freezePart({
    id: 'cakekv',
    slot: 'budget',
    needs: ['observedWindow', 'headStats'],
    provides: [],
    lossy: true,
    observe: settings.observe,
    options: settings,
    forecast: ({ tokens }, capacities) => forecastShares(settings, tokens, capacities),
    create: (setup, saved) =>
      new CakeAllocator(setup, settings, parseSaved(reader.title, budgetsSchema, saved)),
  } satisfies CakeBudgetPart);
}

function selectPart(settings: CakekvSettings): CakeSelectPart {
  const ranked = settings.decodeOrder === 'reference';
  return freezePart({
    id: 'cakekv',
    slot: 'select',
    needs: ['observedWindow', 'headStats', 'decodeProbs'],
    provides: [],
    lossy: true,
    positions: 'original',
    evicts: 'everyStep',
    observe: settings.observe,
    tallies: [
      { kind: 'lastAttention', reduce: 'mean' },
      ...(ranked ? [{ kind: 'own' } as const] : []),
    ],
    options: settings,
    forecast: ({ tokens }) => {
      const rows = capacityOf(settings, tokens);
      const { observe } = settings;
      return { rows, capacity: { rows, window: observe }, decode: { rows, recent: observe } };
    },
    create: (setup, saved) =>
      new CakeSelector(setup, settings, parseSaved(reader.title, z.int().min(1), saved)),
  } satisfies CakeSelectPart);
}
