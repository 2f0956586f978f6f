import {
  budgetPlan,
  resolveBudget,
  type Budget,
  type BudgetPlan,
  type ModelSpec,
} from '@accel/core';
import { pyramidRows, type PyramidMode } from './budgets.js';
import { settingsFrom } from './settings.js';

/** What {@link pyramidPlan} needs to know. */
export interface PyramidPlanOptions {
  /** Rows per layer on average, window included, or a share of the prompt. */
  readonly budget: Budget;
  /** Newest rows that every layer keeps. */
  readonly window: number;
  /** Length of the prompt. */
  readonly rows: number;
  /** Default 20. */
  readonly beta?: number;
  /** Default `'exact'`. */
  readonly mode?: PyramidMode;
}

/**
 * The rows that PyramidKV gives every layer and kv head of a model for a prompt of some length, as a document.
 * @throws AccelError `ERR_ACCEL_BUDGET`, `ERR_ACCEL_ARGUMENT`, `ERR_ACCEL_POLICY`
 * @example
 * const plan = pyramidPlan(model.spec, { budget: { tokens: 1024 }, window: 32, rows: 8192 });
 */
export function pyramidPlan(
  spec: Pick<ModelSpec, 'name' | 'layers' | 'kvHeads'>,
  options: PyramidPlanOptions,
): BudgetPlan {
  const { budget, window, rows, ...own } = options;
  const { beta, mode } = settingsFrom(own);
  const { name, layers, kvHeads } = spec;
  const capacity = 'tokens' in budget ? budget.tokens : resolveBudget(budget, rows);
  const values = pyramidRows({ capacity, window, rows, layers, beta }, mode);
  return budgetPlan(
    {
      schema: 'accel.budget-plan.1',
      model: { id: name },
      layers,
      kvHeads,
      unit: 'tokens',
      values: values.map((kept) => new Array<number>(kvHeads).fill(kept)),
      floor: Math.min(...values),
      total: kvHeads * values.reduce((sum, kept) => sum + kept, 0),
      provenance: `pyramidkv ${mode}, beta ${beta}: ${capacity} rows a layer on average, window ${window}, prompt of ${rows} tokens`,
    },
    spec,
  );
}
