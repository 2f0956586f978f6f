import { readFileSync } from 'node:fs';
import { describe } from 'vitest';
import { readSafetensors, type HostTensor } from './safetensors.js';
import { missing, sharedPath } from './shared.js';
import { expectClose, type Tolerance } from './tolerance.js';

/** One case of `golden/manifest.json`. Tensors are read when first asked for. */
export class GoldenCase {
  readonly id: string;
  readonly title: string;
  readonly params: Readonly<Record<string, unknown>>;
  readonly tolerance: Readonly<Record<string, Tolerance>>;
  /** How q, k and v are built, where they are not stored. */
  readonly generated: StructuredInputs | undefined;
  readonly #file: string;
  #tensors: ReadonlyMap<string, HostTensor> | undefined;

  /** @internal Use {@link goldenCases}. */
  constructor(entry: ManifestEntry) {
    this.id = entry.id;
    this.title = entry.title;
    this.params = entry.params;
    this.tolerance = entry.tolerance;
    this.generated = entry.generated_inputs;
    this.#file = entry.file;
  }

  /** A number of `params`. */
  param(name: string): number {
    const value = this.params[name];
    if (typeof value !== 'number') throw new Error(`${this.id}: no number ${name} in params`);
    return value;
  }

  has(name: string): boolean {
    return this.#all().has(name);
  }

  tensor(name: string): HostTensor {
    const tensor = this.#all().get(name);
    if (tensor === undefined) throw new Error(`${this.id}: no tensor ${name}`);
    return tensor;
  }

  floats(name: string): Float32Array {
    return typed(this, name, Float32Array);
  }

  doubles(name: string): Float64Array {
    return typed(this, name, Float64Array);
  }

  ints(name: string): Int32Array {
    return typed(this, name, Int32Array);
  }

  /** Fails unless `got` is within the case's tolerance of its float32 output `name`. */
  expectClose(name: string, got: ArrayLike<number>): void {
    const tolerance = this.tolerance[name];
    if (tolerance === undefined) throw new Error(`${this.id}: ${name} has no tolerance`);
    expectClose(got, this.floats(name), tolerance, name);
  }

  /** The rows of an int32 matrix, or of all matrices of a larger tensor, without the -1 that pad ragged results. */
  lists(name: string): number[][] {
    const columns = this.tensor(name).shape.at(-1) ?? 0;
    const data = this.ints(name);
    return Array.from({ length: columns === 0 ? 0 : data.length / columns }, (_, row) =>
      [...data.subarray(row * columns, (row + 1) * columns)].filter((value) => value >= 0),
    );
  }

  #all(): ReadonlyMap<string, HostTensor> {
    this.#tensors ??= readSafetensors(sharedPath(`golden/${this.#file}`));
    return this.#tensors;
  }
}

interface ManifestEntry {
  readonly id: string;
  readonly method: string;
  readonly file: string;
  readonly title: string;
  readonly params: Readonly<Record<string, unknown>>;
  readonly tolerance: Readonly<Record<string, Tolerance>>;
  readonly generated_inputs?: StructuredInputs;
}

/** `generated_inputs` of the sparse methods' cases; golden/README.md says how they are meant. */
export interface StructuredInputs {
  readonly seed: number;
  readonly noise: number;
  readonly sink: readonly [number, number];
  readonly columns: readonly (readonly [number, number, number, number])[];
  readonly groups: readonly number[];
  readonly exps: readonly number[];
  readonly band: readonly [number, number, number];
  readonly qband: readonly number[];
  readonly checks: Readonly<
    Record<string, { first4: readonly number[]; sum4096: number; wsum4096_mod32: number }>
  >;
}

/** A parameter set that must be rejected. */
export interface GoldenConfigError {
  readonly method: string;
  readonly params: Readonly<Record<string, number>>;
  readonly reason: string;
}

interface Manifest {
  readonly cases: readonly ManifestEntry[];
  readonly config_errors: readonly GoldenConfigError[];
}

function manifest(): Manifest {
  return JSON.parse(readFileSync(sharedPath('golden/manifest.json'), 'utf8')) as Manifest;
}

/** All cases of a method. The reference material must be there, see {@link missing}. */
export function goldenCases(method: string): GoldenCase[] {
  const entries = manifest().cases.filter((entry) => entry.method === method);
  if (entries.length === 0) throw new Error(`golden/manifest.json has no cases of ${method}`);
  return entries.map((entry) => new GoldenCase(entry));
}

/** Parameter sets of a method that must be rejected. */
export function goldenConfigErrors(method: string): GoldenConfigError[] {
  return manifest().config_errors.filter((entry) => entry.method === method);
}

/**
 * A block of tests on the golden cases of a method; skipped, with the reason in its title, when they are absent.
 * `body` runs while tests are collected and registers them.
 */
export function describeGolden(method: string, body: (cases: GoldenCase[]) => void): void {
  describeShared(`golden/${method}`, () => body(goldenCases(method)));
}

/** A block of tests on a part of the reference material, skipped with the reason in its title when it is absent. */
export function describeShared(name: string, body: () => void): void {
  const reason = missing(name);
  if (reason === undefined) describe(name, body);
  else describe.skip(`${name} [${reason}]`, body);
}

function typed<T extends HostTensor['data']>(
  golden: GoldenCase,
  name: string,
  kind: new (length: number) => T,
): T {
  const { data } = golden.tensor(name);
  if (data instanceof kind) return data;
  throw new Error(`${golden.id}: ${name} is ${golden.tensor(name).dtype}, not ${kind.name}`);
}
