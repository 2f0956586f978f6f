import {
  assemble,
  compose,
  full,
  readMethodConfig,
  type JsonObject,
  type Method,
  type NamedParts,
  type Part,
  type Policy,
} from '@accel/core';
import { UsageError } from '../errors.js';
import { splitList } from '../values.js';
import { findMethod, requireMethod } from './registry.js';

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
 * Reads the value of `--acceleration` where several policies are compared: names with commas between them.
 *
 * @throws AccelError ERR_ACCEL_METHOD_UNKNOWN, ERR_ACCEL_POLICY, and what a method's options are refused with
 */
export async function resolvePolicies(
  words: readonly string[],
  configs: MethodConfigs,
): Promise<NamedPolicy[]> {
  const specs = splitList(words);
  if (specs.length === 0) throw new UsageError('--acceleration is empty. Use full for none.');
  const policies: NamedPolicy[] = [];
  for (const spec of specs) policies.push(await resolvePolicy(spec, configs));
  const used = new Set(
    specs.flatMap((spec) => methodNames(spec)).map((name) => findMethod(name).id),
  );
  for (const id of configs.keys()) {
    if (!used.has(id)) {
      throw new UsageError(
        `--config names ${findMethod(id).title}, which --acceleration does not use.`,
      );
    }
  }
  return policies;
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
  const names = methodNames(spec);
  if (names.length === 0) return { name: 'full', policy: full };
  const entries = names.map(findMethod);
  const twice = entries.find((entry, index) => entries.indexOf(entry) !== index);
  if (twice !== undefined) throw new UsageError(`${spec} names ${twice.title} twice.`);
  const named: NamedParts[] = [];
  for (const entry of entries) {
    const method = await requireMethod(entry);
    named.push({ method, parts: await makeParts(method, configs.get(entry.id) ?? 'paper') });
  }
  return {
    name: entries.map((entry) => entry.title).join('+'),
    policy: compose(...assemble(named)),
  };
}

/** The parts of one method from its options, a preset's name or a file. */
export async function makeParts(
  method: Method,
  source: string | JsonObject,
): Promise<readonly Part[]> {
  if (typeof source !== 'string') return method.fromConfig(source);
  const preset = source.toLowerCase();
  const path = preset === 'paper' || preset === 'loom' ? method.presets[preset] : source;
  return readMethodConfig(path, method);
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
