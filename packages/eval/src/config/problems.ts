import { suggest } from '@accel/core';
import { z } from 'zod';

/** Something that a schema does not allow. */
interface Problem {
  readonly path: readonly PropertyKey[];
  /** `length[2]: value is "many"; allowed: a whole number, at least 1` */
  readonly text: string;
}

/** Problems beyond these are counted, not listed. */
const MOST_PROBLEMS = 20;

/**
 * Says for every problem that a schema found where it is, what stands there, and what is allowed there.
 *
 * @param value what was checked
 */
export function describeProblems(
  error: z.ZodError,
  schema: z.ZodType,
  value: unknown,
): readonly Problem[] {
  const shape = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as JsonSchema;
  const problems = error.issues.map(deepest).map(({ path, message, custom }) => {
    const wrong = reach(value, path);
    const allowed = custom ? undefined : at(shape, path);
    const rule = (allowed && describeSchema(allowed)) ?? message;
    const hint = allowed === undefined ? '' : hintFor(wrong, allowed);
    return {
      path,
      text: `${formatPath(path)}: value is ${formatValue(wrong)}; allowed: ${rule}${hint}`,
    };
  });
  const more = problems.length - MOST_PROBLEMS;
  if (more <= 0) return problems;
  return [...problems.slice(0, MOST_PROBLEMS), { path: [], text: `and ${more} more problems` }];
}

/** `task_names[3]`; the whole is `(top level)`. */
function formatPath(path: readonly PropertyKey[]): string {
  const text = path
    .map((step, i) =>
      typeof step === 'number' ? `[${step}]` : `${i > 0 ? '.' : ''}${String(step)}`,
    )
    .join('');
  return text === '' ? '(top level)' : text;
}

const LONGEST_VALUE = 60;

/** A value as JSON on one line, cut when it is long; `missing` for none. */
export function formatValue(value: unknown): string {
  if (value === undefined) return 'missing';
  // JSON has no NaN and no infinity.
  const text = typeof value === 'number' ? String(value) : JSON.stringify(value);
  return text.length > LONGEST_VALUE ? `${text.slice(0, LONGEST_VALUE)}…` : text;
}

interface JsonSchema {
  readonly type?: string;
  readonly description?: string;
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly anyOf?: readonly JsonSchema[];
  readonly items?: JsonSchema;
  readonly prefixItems?: readonly JsonSchema[];
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly additionalProperties?: JsonSchema | boolean;
  readonly minItems?: number;
  readonly minLength?: number;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: number;
  readonly exclusiveMaximum?: number;
}

interface Found {
  readonly path: readonly PropertyKey[];
  readonly message: string;
  /** Comes from a rule of ours, which its message says better than the schema could. */
  readonly custom: boolean;
}

/** Of the branches of a union, the problem of the one that went furthest: it is the one that was meant. */
function deepest(issue: z.core.$ZodIssue): Found {
  const { path, message, code } = issue;
  const here = { path, message, custom: code === 'custom' };
  if (issue.code !== 'invalid_union') return here;
  const below = issue.errors.flatMap((branch) =>
    branch.map(deepest).map((found) => ({ ...found, path: [...path, ...found.path] })),
  );
  return below.reduce<Found>(
    (best, found) => (found.path.length > best.path.length ? found : best),
    here,
  );
}

/** The part of a schema that a path leads to. */
function at(schema: JsonSchema, path: readonly PropertyKey[]): JsonSchema | undefined {
  const [step, ...rest] = path;
  if (step === undefined) return schema;
  const branches = schema.anyOf ?? [schema];
  for (const branch of branches) {
    const next =
      typeof step === 'number'
        ? (branch.prefixItems?.[step] ?? branch.items)
        : (branch.properties?.[String(step)] ?? additional(branch));
    const found = next === undefined ? undefined : at(next, rest);
    if (found !== undefined) return found;
  }
  return undefined;
}

function additional({ additionalProperties }: JsonSchema): JsonSchema | undefined {
  return typeof additionalProperties === 'object' ? additionalProperties : undefined;
}

/** What a schema allows, in words; undefined when it says nothing. */
function describeSchema(schema: JsonSchema): string | undefined {
  const { description, anyOf, type } = schema;
  if (description !== undefined) return description;
  if (schema.const !== undefined) return formatValue(schema.const);
  if (schema.enum !== undefined) return schema.enum.map(formatValue).join(', ');
  if (anyOf !== undefined) {
    return anyOf.map((branch) => describeSchema(branch) ?? 'anything').join(', or ');
  }
  if (type === 'null') return 'null';
  if (type === 'boolean') return 'true or false';
  if (type === 'string') return (schema.minLength ?? 0) > 0 ? 'a text that is not empty' : 'a text';
  if (type === 'integer' || type === 'number') return describeNumber(schema);
  if (type === 'array') return describeList(schema);
  return type === 'object' ? 'a mapping of keys to values' : undefined;
}

/** The choice that a word is probably a misspelling of. */
function hintFor(wrong: unknown, { anyOf, ...schema }: JsonSchema): string {
  const choices = (anyOf ?? [schema]).flatMap(({ enum: values = [] }) => values);
  const words = choices.filter((choice) => typeof choice === 'string');
  const hint = typeof wrong === 'string' ? suggest(wrong, words) : '';
  return hint === '' ? '' : `.${hint}`;
}

function describeNumber(schema: JsonSchema): string {
  const kind = schema.type === 'integer' ? 'a whole number' : 'a number';
  const bounds = [
    bound('above', schema.exclusiveMinimum),
    bound('at least', schema.minimum),
    bound('below', schema.exclusiveMaximum),
    bound('at most', schema.maximum),
  ].filter((text) => text !== undefined);
  return [kind, ...bounds].join(', ');
}

/** Whole numbers carry the limits of exact arithmetic with them, which tell nobody anything. */
function bound(word: string, value: number | undefined): string | undefined {
  return value === undefined || Math.abs(value) === Number.MAX_SAFE_INTEGER
    ? undefined
    : `${word} ${value}`;
}

function describeList({ items, minItems = 0 }: JsonSchema): string {
  const item = items === undefined ? undefined : describeSchema(items);
  const list = minItems > 0 ? 'a list that is not empty' : 'a list';
  return item === undefined ? list : `${list}, each ${item}`;
}

function reach(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (inner, step) =>
      typeof inner === 'object' && inner !== null && Object.hasOwn(inner, step)
        ? (inner as Record<PropertyKey, unknown>)[step]
        : undefined,
    value,
  );
}
