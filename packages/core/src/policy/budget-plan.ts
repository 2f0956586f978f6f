import { AccelError } from '@accel/kernels';
import { z } from 'zod';
import { describeIssues } from '../config/issues.js';
import type { ModelSpec } from '../config/spec.js';
import { resolveBudget } from './budget.js';

/** Rows for every layer and kv head of a model, as a document with its history. */
export interface BudgetPlan {
  readonly schema: 'accel.budget-plan.1';
  readonly model: { readonly id: string; readonly hash?: string };
  readonly layers: number;
  readonly kvHeads: number;
  /** `tokens`: numbers of rows; `keep`: shares of the rows there are. */
  readonly unit: 'tokens' | 'keep';
  /** `[layers][kvHeads]` */
  readonly values: readonly (readonly number[])[];
  /** Least value of a cell, in `unit`; with `tokens` at least 1. */
  readonly floor: number;
  /** Sum of all cells, in `unit`. */
  readonly total: number;
  /** How the numbers came about: method, options, data. */
  readonly provenance: string;
}

const count = z.int().min(1);
const schema = z.strictObject({
  schema: z.literal('accel.budget-plan.1'),
  model: z.strictObject({ id: z.string(), hash: z.string().exactOptional() }),
  layers: count,
  kvHeads: count,
  unit: z.enum(['tokens', 'keep']),
  values: z.array(z.array(z.number())),
  floor: z.number(),
  total: z.number(),
  provenance: z.string(),
});

/**
 * Checks a plan: every cell is at least the floor and never zero, the cells add up to the total, and the shape is the
 * model's.
 * @param document a plan or JSON of one
 * @param spec the model it is for, if it is to be checked against one
 * @returns the plan, frozen
 * @throws AccelError `ERR_ACCEL_BUDGET`
 */
export function budgetPlan(
  document: unknown,
  spec?: Pick<ModelSpec, 'layers' | 'kvHeads' | 'name'>,
): BudgetPlan {
  const result = schema.safeParse(document);
  if (!result.success) throw refuse(describeIssues(result.error), result.error);
  const plan = result.data;
  const { layers, kvHeads, unit, values, floor, total } = plan;
  if (spec !== undefined && (spec.layers !== layers || spec.kvHeads !== kvHeads)) {
    throw refuse(
      `it is for ${layers} layers of ${kvHeads} kv heads, but ${spec.name} has ${spec.layers} of ${spec.kvHeads}`,
    );
  }
  if (values.length !== layers || values.some((row) => row.length !== kvHeads)) {
    throw refuse(`values must be ${layers} lists of ${kvHeads} numbers`);
  }
  const least = unit === 'tokens' ? Math.max(1, floor) : floor;
  if (unit === 'keep' && !(floor > 0 && floor <= 1)) {
    throw refuse(`the floor ${floor} must be above 0 and at most 1`);
  }
  for (const [layer, row] of values.entries()) {
    for (const [head, value] of row.entries()) {
      const cell = `layer ${layer}, head ${head} keeps ${value}`;
      if (!(value >= least)) throw refuse(`${cell}, less than the floor ${least}`);
      if (unit === 'tokens' && !Number.isSafeInteger(value))
        throw refuse(`${cell}, not a whole number`);
      if (unit === 'keep' && value > 1) throw refuse(`${cell}, more than all`);
    }
  }
  const sum = values.flat().reduce((a, b) => a + b, 0);
  // Shares are fractions, whose sum carries rounding errors.
  const slack = unit === 'tokens' ? 0 : 1e-9 * values.flat().length;
  if (!(Math.abs(sum - total) <= slack)) {
    throw refuse(`the cells add up to ${sum}, not to the total ${total}`);
  }
  return Object.freeze({
    ...plan,
    model: Object.freeze(plan.model),
    values: Object.freeze(values.map((row) => Object.freeze(row))),
  });
}

/** Rows that a plan gives a head of a layer when there are `rows`; never 0. */
export function planRows(plan: BudgetPlan, layer: number, head: number, rows: number): number {
  const value = plan.values[layer]?.[head];
  if (value === undefined) {
    throw new AccelError(
      'ERR_ACCEL_ARGUMENT',
      `The plan has ${plan.layers} layers of ${plan.kvHeads} heads; there is no layer ${layer}, head ${head}.`,
    );
  }
  return resolveBudget(plan.unit === 'tokens' ? { tokens: value } : { keep: value }, rows);
}

function refuse(problem: string, cause?: unknown): AccelError {
  return new AccelError('ERR_ACCEL_BUDGET', `The budget plan cannot be used: ${problem}.`, {
    cause,
  });
}
