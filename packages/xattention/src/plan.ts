import { readFile, writeFile } from 'node:fs/promises';
import { AccelError, type ModelSpec } from '@accel/core';
import { z } from 'zod';
import type { Stride } from './settings.js';

/** Thresholds for every layer and query head of a model, as a document with its history. */
export interface ThresholdPlan {
  readonly schema: 'accel.xattention.thresholds/1';
  readonly model: { readonly name: string; readonly layers: number; readonly heads: number };
  /** The stride that the thresholds were found with; they are good for no other. */
  readonly stride: Stride;
  /** `[layers][heads]`, each from 0 to 1. */
  readonly thresholds: readonly (readonly number[])[];
  /** Share of the true attention that the thresholds are to keep. */
  readonly coverage: number;
  /** How the numbers came about: texts, lengths, program. */
  readonly provenance: string;
}

const share = z.number().min(0).max(1);
const count = z.int().min(1);
const schema = z.strictObject({
  schema: z.literal('accel.xattention.thresholds/1'),
  model: z.strictObject({ name: z.string(), layers: count, heads: count }),
  stride: z.literal([4, 8, 16, 32, 64]),
  thresholds: z.array(z.array(share)),
  coverage: share,
  provenance: z.string(),
});

/**
 * Checks a plan.
 * @param document a plan or JSON of one
 * @param spec the model it is for, if it is to be checked against one
 * @returns the plan, frozen
 * @throws AccelError `ERR_ACCEL_POLICY`
 */
export function thresholdPlan(
  document: unknown,
  spec?: Pick<ModelSpec, 'name' | 'layers' | 'heads'>,
): ThresholdPlan {
  const result = schema.safeParse(document);
  if (!result.success) {
    const issues = result.error.issues.map(({ path, message }) =>
      [...path.map(String), message].join(': '),
    );
    throw refuse(issues.join('; '), result.error);
  }
  const { model, thresholds, ...rest } = result.data;
  checkShape(thresholds, model);
  if (spec !== undefined) checkShape(thresholds, spec);
  return Object.freeze({
    ...rest,
    model: Object.freeze(model),
    thresholds: Object.freeze(thresholds.map((row) => Object.freeze(row))),
  });
}

/** @throws AccelError `ERR_ACCEL_POLICY` unless there is a number for each layer and query head */
export function checkShape(
  thresholds: readonly (readonly number[])[],
  { name, layers, heads }: Pick<ModelSpec, 'name' | 'layers' | 'heads'>,
): void {
  const wrong = thresholds.findIndex((row) => row.length !== heads);
  if (thresholds.length === layers && wrong === -1) return;
  const found =
    thresholds.length === layers
      ? `layer ${wrong} has ${thresholds[wrong]?.length ?? 0} numbers`
      : `there are ${thresholds.length} layers`;
  throw refuse(`${name} has ${layers} layers of ${heads} query heads, but ${found}`);
}

/**
 * Reads a plan from a JSON file.
 * @throws AccelError `ERR_ACCEL_FILE` when it cannot be read, `ERR_ACCEL_POLICY` when it is no plan or one for a model of
 *   another shape
 */
export async function readThresholds(
  path: string,
  spec?: Pick<ModelSpec, 'name' | 'layers' | 'heads'>,
): Promise<ThresholdPlan> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    throw new AccelError('ERR_ACCEL_FILE', `The thresholds ${path} cannot be read.`, { cause });
  }
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (cause) {
    throw refuse(`${path} is not JSON`, cause);
  }
  return thresholdPlan(document, spec);
}

/** Writes a plan as JSON, a line for each layer. @throws AccelError `ERR_ACCEL_POLICY`, `ERR_ACCEL_FILE` */
export async function writeThresholds(path: string, plan: ThresholdPlan): Promise<void> {
  const { thresholds, ...head } = thresholdPlan(plan);
  const lines = thresholds.map((row) => `    ${JSON.stringify(row)}`).join(',\n');
  const fields = JSON.stringify(head, null, 2).slice(0, -2);
  try {
    await writeFile(path, `${fields},\n  "thresholds": [\n${lines}\n  ]\n}\n`);
  } catch (cause) {
    throw new AccelError('ERR_ACCEL_FILE', `The thresholds cannot be written to ${path}.`, {
      cause,
    });
  }
}

function refuse(problem: string, cause?: unknown): AccelError {
  return new AccelError('ERR_ACCEL_POLICY', `The thresholds cannot be used: ${problem}.`, {
    cause,
  });
}
