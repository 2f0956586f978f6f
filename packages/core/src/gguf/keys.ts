import type { AccelError } from '@accel/kernels';
import type { Metadata } from './metadata.js';

/** Positions and sizes are int32 in the kernels. */
const LARGEST = 2 ** 31 - 1;

/** The numbers of one architecture in the metadata: keys that begin with its name. */
export class ArchitectureKeys {
  readonly metadata: Metadata;
  readonly #prefix: string;

  constructor(metadata: Metadata, architecture: string) {
    this.metadata = metadata;
    this.#prefix = architecture;
  }

  /** The whole key. */
  key(name: string): string {
    return `${this.#prefix}.${name}`;
  }

  error(name: string, problem: string): AccelError {
    return this.metadata.error(this.key(name), problem);
  }

  number(name: string): number | undefined {
    return this.metadata.number(this.key(name));
  }

  text(name: string): string | undefined {
    return this.metadata.text(this.key(name));
  }

  /** A number above 0. */
  positive(name: string): number | undefined {
    const value = this.number(name);
    if (value === undefined || (Number.isFinite(value) && value > 0)) return value;
    throw this.error(name, `is ${value}; it must be above 0.`);
  }

  /** A whole number of at least 1, or a list of such in which all are equal. */
  size(name: string, most: number = LARGEST): number | undefined {
    if (!this.metadata.has(this.key(name))) return undefined;
    const value = this.#sameForAllLayers(name);
    if (Number.isInteger(value) && value >= 1 && value <= most) return value;
    throw this.error(name, `is ${value}; it must be a whole number from 1 to ${most}.`);
  }

  /** As {@link size}, for a key that every file has. */
  neededSize(name: string, most?: number): number {
    const value = this.size(name, most);
    if (value !== undefined) return value;
    throw this.error(name, 'is missing. Convert the checkpoint to GGUF again.');
  }

  #sameForAllLayers(name: string): number {
    const key = this.key(name);
    if (!this.metadata.isList(key)) return this.metadata.number(key) ?? NaN;
    const values = this.metadata.numbers(key) ?? [];
    const first = values[0];
    if (first !== undefined && values.every((value) => value === first)) return first;
    throw this.error(
      name,
      'differs from layer to layer; only models whose layers are alike are supported.',
    );
  }
}
