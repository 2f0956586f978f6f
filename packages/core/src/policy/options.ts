import { AccelError } from '@accel/kernels';
import { z } from 'zod';
import { shown, valueAt } from '../config/issues.js';
import { suggest } from './nearest.js';
import type { JsonObject, JsonValue } from './part.js';

/**
 * Another name that configs use for an option: where the value belongs (`'pool.size'`), with a conversion if the
 * value is written differently there; or why the key is accepted and has no effect.
 */
export type OptionAlias =
  | string
  | { readonly to: string; readonly convert: (value: JsonValue) => JsonValue }
  | { readonly ignored: string };

/** How the options of a method are read. */
export interface OptionsReader<T> {
  /** Name of the method for messages. */
  readonly title: string;
  /** Schema of the options under our names; unknown keys are refused whatever it says about them. */
  readonly schema: z.ZodType<T>;
  /** Keys of other toolkits. */
  readonly aliases?: Readonly<Record<string, OptionAlias>>;
}

/**
 * What the type `O` of given options says of option `K`: its type, `Default` when it is left out, both when it may be. For
 * parts whose type depends on their options, so that the compiler can tell what goes together.
 */
export type OptionOf<O, K extends PropertyKey, Default> = K extends keyof O
  ? Exclude<O[K], undefined> | (undefined extends O[K] ? Default : never)
  : Default;

/** The `cause` of an error about an option: which one, so that a file reader can say where it stands. */
export class OptionProblem extends Error {
  /** Keys from the outside in, as the config spells them. */
  readonly path: readonly (string | number)[];
  constructor(message: string, path: readonly (string | number)[]) {
    super(message);
    this.name = 'OptionProblem';
    this.path = path;
  }
}

/**
 * Checks the options of a method and translates the keys of other toolkits.
 * @throws AccelError `ERR_ACCEL_POLICY` naming the option; for an unknown one, with the nearest known name
 */
export function parseOptions<T>(reader: OptionsReader<T>, config: unknown): T {
  if (typeof config !== 'object' || config === null || Array.isArray(config)) {
    throw problem(reader, [], 'options must be an object of names and values');
  }
  const { options, spelled } = translate(reader, config as JsonObject);
  refuseUnknown(reader, reader.schema, options, []);
  const result = reader.schema.safeParse(options);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const path = (issue?.path ?? []).map((key) => (typeof key === 'number' ? key : String(key)));
  const original = spelled.get(path.join('.'));
  const value = original === undefined ? valueAt(options, path) : (config as JsonObject)[original];
  throw problem(
    reader,
    original === undefined ? path : [original],
    `is ${shown(value)}: ${issue?.message ?? 'invalid'}`,
    result.error,
  );
}

/** Moves values from other names to ours. */
function translate<T>(
  reader: OptionsReader<T>,
  config: JsonObject,
): { options: JsonObject; spelled: ReadonlyMap<string, string> } {
  const aliases = reader.aliases ?? {};
  // Without a prototype, so that a key called __proto__ is a key like any other.
  const options = Object.create(null) as Record<string, JsonValue | undefined>;
  const spelled = new Map<string, string>();
  for (const [key, value] of Object.entries(config)) {
    if (value !== undefined && !Object.hasOwn(aliases, key)) options[key] = value;
  }
  for (const [key, value] of Object.entries(config)) {
    const alias = Object.hasOwn(aliases, key) ? aliases[key] : undefined;
    if (alias === undefined || value === undefined) continue;
    if (typeof alias === 'object' && 'ignored' in alias) continue;
    const to = typeof alias === 'string' ? alias : alias.to;
    const twin = spelled.get(to);
    if (twin !== undefined || !place(options, to.split('.'), convert(alias, value))) {
      throw problem(
        reader,
        [key],
        `means ${to}, which ${twin ?? 'the config'} gives too; keep one of them`,
      );
    }
    spelled.set(to, key);
  }
  return { options, spelled };
}

function convert(alias: Exclude<OptionAlias, { ignored: string }>, value: JsonValue): JsonValue {
  return typeof alias === 'string' ? value : alias.convert(value);
}

/** @returns false when there is a value already */
function place(
  target: Record<string, JsonValue | undefined>,
  path: readonly string[],
  value: JsonValue,
): boolean {
  const [key = '', ...rest] = path;
  if (rest.length === 0) {
    if (target[key] !== undefined) return false;
    target[key] = value;
    return true;
  }
  const inner = target[key] ?? {};
  if (typeof inner !== 'object' || Array.isArray(inner)) return false;
  const copy = { ...(inner as JsonObject) };
  target[key] = copy;
  return place(copy, rest, value);
}

/** Names every key that the schema does not know, at any depth the schema describes. */
function refuseUnknown<T>(
  reader: OptionsReader<T>,
  schema: unknown,
  value: unknown,
  path: readonly string[],
): void {
  const shape = shapeOf(schema);
  if (shape === undefined || typeof value !== 'object' || value === null) return;
  const known = Object.keys(shape);
  for (const [key, inner] of Object.entries(value)) {
    if (Object.hasOwn(shape, key)) {
      refuseUnknown(reader, shape[key], inner, [...path, key]);
      continue;
    }
    const names = path.length === 0 ? [...known, ...Object.keys(reader.aliases ?? {})] : known;
    throw problem(
      reader,
      [...path, key],
      `is not an option.${suggest(key, names)} Options: ${known.join(', ')}`,
    );
  }
}

/** The keys of an object schema inside optional, default, readonly and similar wrappers. */
function shapeOf(schema: unknown): Readonly<Record<string, unknown>> | undefined {
  if (schema instanceof z.ZodObject) return schema.shape;
  if (schema instanceof z.ZodPipe) return shapeOf(schema.in);
  if (
    schema instanceof z.ZodOptional ||
    schema instanceof z.ZodNullable ||
    schema instanceof z.ZodDefault ||
    schema instanceof z.ZodPrefault ||
    schema instanceof z.ZodReadonly
  ) {
    return shapeOf(schema.unwrap());
  }
  return undefined;
}

function problem<T>(
  reader: OptionsReader<T>,
  path: readonly (string | number)[],
  message: string,
  cause?: unknown,
): AccelError {
  const name = path.length === 0 ? '' : ` ${path.join('.')}`;
  const text = `${reader.title}:${name} ${message}.`;
  const detail = new OptionProblem(text, path);
  if (cause !== undefined) detail.cause = cause;
  return new AccelError('ERR_ACCEL_POLICY', text, { cause: detail });
}
