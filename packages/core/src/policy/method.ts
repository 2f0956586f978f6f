import { AccelError } from '@accel/kernels';
import type { z } from 'zod';
import type { ModelSpec } from '../config/spec.js';
import { suggest } from './nearest.js';
import type { JsonObject, Part, Slot } from './part.js';

/** How a method registers: what a program needs to list it, configure it and make its parts. */
export interface Method {
  /** Lower case, as in the package name. */
  readonly id: string;
  /** As the paper writes it. */
  readonly title: string;
  /** Where it was published, with the arXiv number if there is one. */
  readonly paper: string;
  /** Slots its parts fill. */
  readonly slots: readonly Slot[];
  /**
   * Of these, the slots it fills only for want of another method: its own part there yields to that of a method named
   * beside it (see {@link assemble}). Default none.
   */
  readonly optionalSlots?: readonly Slot[];
  /** Schema of its options, under our names. */
  readonly options: z.ZodType;
  /**
   * Makes the method's parts from options, under our names or the keys of the toolkit this one grew from. A part's own
   * `options`, given back, make the same part again. Parts of another method, with its id, may be among them where this
   * one needs such a companion to work alone; they yield to methods that are named beside it.
   * @throws AccelError `ERR_ACCEL_POLICY` or `ERR_ACCEL_BUDGET` naming the option
   */
  fromConfig(config: JsonObject): readonly Part[];
  /** Config files that come with the package: the paper's values, and the seed toolkit's. */
  readonly presets: Readonly<Record<'paper' | 'loom', string>>;
  /** Path of its op library, which says what devices it runs on. Without one it runs wherever the built-in ops do. */
  readonly library?: string;
  /**
   * Whether it runs on a model, with default options. Every method runs on every model unless it says so here.
   * @returns why it does not, as half a sentence; undefined if it does
   */
  supports?(spec: ModelSpec): string | undefined;
}

/** The methods a program knows, by name. */
export class MethodRegistry implements Iterable<Method> {
  readonly #methods = new Map<string, Method>();

  constructor(methods: Iterable<Method> = []) {
    for (const method of methods) this.register(method);
  }

  /** @throws AccelError `ERR_ACCEL_ARGUMENT` when the name is taken by another method */
  register(method: Method): void {
    const key = normalize(method.id);
    const known = this.#methods.get(key);
    if (known !== undefined && known !== method) {
      throw new AccelError(
        'ERR_ACCEL_ARGUMENT',
        `A method called ${known.id} is registered already. Register each method once.`,
      );
    }
    this.#methods.set(key, method);
  }

  /** Case, hyphens and underscores do not matter. */
  has(name: string): boolean {
    return this.#methods.has(normalize(name));
  }

  /** @throws AccelError `ERR_ACCEL_METHOD_UNKNOWN` with the nearest name */
  get(name: string): Method {
    const method = this.#methods.get(normalize(name));
    if (method !== undefined) return method;
    const titles = [...this.#methods.values()].map(({ title }) => title);
    throw new AccelError(
      'ERR_ACCEL_METHOD_UNKNOWN',
      `There is no method called "${name}".${suggest(name, titles)} Known: ${titles.join(', ') || 'none'}.`,
    );
  }

  [Symbol.iterator](): Iterator<Method> {
    return this.#methods.values();
  }
}

function normalize(name: string): string {
  return name.toLowerCase().replaceAll(/[-_ ]/g, '');
}
