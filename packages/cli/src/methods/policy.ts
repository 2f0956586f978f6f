import { readFile } from 'node:fs/promises';
import { basename, extname } from 'node:path';
import {
  AccelError,
  assemble,
  compose,
  full,
  parsePolicy,
  readMethodConfig,
  readMethodOptions,
  type JsonObject,
  type Method,
  type NamedParts,
  type Part,
  type Policy,
} from '@accel/core';
import { UsageError } from '../errors.js';
import { splitList } from '../values.js';
import { catalogue } from './catalogue.js';
import { findMethod, loadMethod, requireMethod } from './registry.js';
import { NO_SWEEP, variantsOf, type Sweep } from './sweep.js';

/** A policy and the name its results are printed under. */
export interface NamedPolicy {
  readonly name: string;
  readonly policy: Policy;
}

/** Where the options of a method come from, by method id: a preset's name, a path, or options themselves. */
export type MethodConfigs = ReadonlyMap<string, string | JsonObject>;

/** Reads the values of `--config METHOD=path.yaml` (or `METHOD=paper`, `METHOD=loom`). */
export function parseConfigs(values: readonly string[]): MethodConfigs {
  const configs = new Map<string, string>();
  for (const value of splitList(values)) {
    const equals = value.indexOf('=');
    if (equals < 1 || equals === value.length - 1) {
      throw new UsageError(
        `--config takes METHOD=path.yaml, METHOD=paper or METHOD=loom, not "${value}".`,
      );
    }
    const { id, title } = findMethod(value.slice(0, equals));
    if (configs.has(id)) throw new UsageError(`--config was given twice for ${title}.`);
    configs.set(id, value.slice(equals + 1));
  }
  return configs;
}

/**
 * Reads the value of `--acceleration` where several policies are compared: names with commas between them, each in all its
 * variants.
 *
 * @param sweep options to vary. Default: none
 * @throws AccelError ERR_ACCEL_METHOD_UNKNOWN, ERR_ACCEL_POLICY, and what a method's options are refused with
 */
export async function resolvePolicies(
  words: readonly string[],
  configs: MethodConfigs,
  sweep: Sweep = NO_SWEEP,
): Promise<NamedPolicy[]> {
  const specs = splitList(words);
  if (specs.length === 0) throw new UsageError('--acceleration is empty. Use full for none.');
  const policies: NamedPolicy[] = [];
  for (const spec of specs) policies.push(...(await resolveVariants(spec, configs, sweep)));
  const used = new Set(
    specs.flatMap((spec) => methodNames(spec)).map((name) => findMethod(name).id),
  );
  refuseUnused('--config', configs.keys(), used);
  refuseUnused('--sweep', sweep.options.keys(), used);
  return policies;
}

function refuseUnused(flag: string, ids: Iterable<string>, used: ReadonlySet<string>): void {
  for (const id of ids) {
    if (used.has(id)) continue;
    throw new UsageError(
      `${flag} names ${findMethod(id).title}, which --acceleration does not use.`,
    );
  }
}

/**
 * Makes the policy of one run: `full`, a method, or methods joined by `+`, in any order.
 *
 * Methods without a config take their paper's preset. What a method brings along to work alone (PyramidKV its selection)
 * yields to another that is named, as core's `assemble` says.
 *
 * @throws AccelError ERR_ACCEL_METHOD_UNKNOWN, ERR_ACCEL_POLICY when they do not go together, and what a method's options
 *   are refused with
 */
export async function resolvePolicy(spec: string, configs: MethodConfigs): Promise<NamedPolicy> {
  const [policy] = await resolveVariants(spec, configs, NO_SWEEP);
  return policy as NamedPolicy;
}

async function resolveVariants(
  spec: string,
  configs: MethodConfigs,
  sweep: Sweep,
): Promise<NamedPolicy[]> {
  const names = methodNames(spec);
  if (names.length === 0) return [{ name: 'full', policy: full }];
  const entries = names.map(findMethod);
  const twice = entries.find((entry, index) => entries.indexOf(entry) !== index);
  if (twice !== undefined) throw new UsageError(`${spec} names ${twice.title} twice.`);
  const methods = await Promise.all(
    entries.map(async (entry) => ({
      entry,
      method: await requireMethod(entry),
      source: configs.get(entry.id) ?? 'paper',
    })),
  );
  const title = entries.map((entry) => entry.title).join('+');
  return Promise.all(
    variantsOf(
      entries.map(({ id }) => id),
      sweep,
    ).map(async ({ suffix, change, changes }) => {
      const named = await Promise.all(
        methods.map(async ({ entry, method, source }): Promise<NamedParts> => {
          if (!changes) return { method, parts: await makeParts(method, source) };
          const options = change(entry.id, await optionsOf(method, source));
          return { method, parts: method.fromConfig(options) };
        }),
      );
      return { name: title + suffix, policy: compose(...assemble(named)) };
    }),
  );
}

/** The parts of one method from its options, a preset's name or a file. */
export async function makeParts(
  method: Method,
  source: string | JsonObject,
): Promise<readonly Part[]> {
  if (typeof source !== 'string') return method.fromConfig(source);
  return readMethodConfig(pathOf(method, source), method);
}

async function optionsOf(method: Method, source: string | JsonObject): Promise<JsonObject> {
  return typeof source === 'string' ? readMethodOptions(pathOf(method, source), method) : source;
}

function pathOf(method: Method, source: string): string {
  const preset = source.toLowerCase();
  return preset === 'paper' || preset === 'loom' ? method.presets[preset] : source;
}

/**
 * Reads a policy document, as `policy.toJSON()` writes it or by hand: `{ "parts": ["snapkv"] }`. It is called by the file's
 * name without its ending.
 *
 * @throws AccelError ERR_ACCEL_FILE; ERR_ACCEL_POLICY and the like with the file in front
 */
export async function readPolicyFile(path: string): Promise<NamedPolicy> {
  let document: unknown;
  try {
    document = JSON.parse(await readFile(path, 'utf8'));
  } catch (error) {
    const problem = error instanceof SyntaxError ? 'is not JSON' : 'cannot be read';
    throw new AccelError(
      'ERR_ACCEL_FILE',
      `The policy file ${path} ${problem}: ${(error as Error).message}. Check --policy.`,
      { cause: error },
    );
  }
  const methods = await Promise.all(catalogue.map(loadMethod));
  try {
    const policy = parsePolicy(
      document,
      methods.filter((method) => method !== undefined),
    );
    return { name: basename(path, extname(path)), policy };
  } catch (error) {
    if (!AccelError.isInstance(error)) throw error;
    throw new AccelError(error.code, `${path}: ${error.message}`, { cause: error });
  }
}

/** The methods of one spec; none for `full`. */
function methodNames(spec: string): string[] {
  const names = spec
    .split('+')
    .map((name) => name.trim())
    .filter((name) => name !== '');
  if (names.length === 1 && names[0]?.toLowerCase() === 'full') return [];
  if (names.length === 0) throw new UsageError('--acceleration is empty. Use full for none.');
  if (names.some((name) => name.toLowerCase() === 'full')) {
    throw new UsageError(`full means no method, so ${spec} says nothing. Leave full out.`);
  }
  return names;
}
