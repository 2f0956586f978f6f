import { resolve } from 'node:path';
import type { DeviceInfo } from './device.js';
import { AccelError } from './errors.js';
import { native, type NativeLibrary } from './native.js';

/** A kernel that {@link Stream.run} can enqueue. */
export interface Op {
  readonly name: string;
  /** Arguments and their types, for example `out:tensor, x:tensor, eps:float`. */
  readonly signature: string;
  /** Kinds of device that it has a function for. */
  readonly devices: readonly DeviceInfo['kind'][];
  /** @internal */ readonly id: number;
}

/** The ops that one shared library brings. Libraries stay loaded until the process ends. */
export class OpLibrary {
  readonly name: string;
  readonly version: string;
  readonly ops: readonly Op[];
  readonly #byName: ReadonlyMap<string, Op>;

  /** @internal Use {@link loadOpLibrary}. */
  constructor(library: NativeLibrary) {
    this.name = library.name;
    this.version = library.version;
    this.ops = library.ops.map(({ name, signature, id, cpu, cuda }) => {
      const devices = [...(cpu ? (['cpu'] as const) : []), ...(cuda ? (['cuda'] as const) : [])];
      return Object.freeze({ name, signature, devices: Object.freeze(devices), id });
    });
    this.#byName = new Map(this.ops.map((op) => [op.name, op]));
  }

  /** @throws AccelError `ERR_ACCEL_OP_UNKNOWN` with the names there are */
  op(name: string): Op {
    const op = this.#byName.get(name);
    if (op !== undefined) return op;
    throw new AccelError(
      'ERR_ACCEL_OP_UNKNOWN',
      `The op library ${this.name} ${this.version} has no op "${name}"; it has: ${[...this.#byName.keys()].join(', ')}.`,
    );
  }
}

/**
 * Loads a package's own kernels (see include/accel/op.h and cmake/AccelOpLibrary.cmake). The same file gives the same
 * ops again.
 * @param path of the shared library
 * @throws AccelError `ERR_ACCEL_OP_LIBRARY` when it cannot be loaded; `ERR_ACCEL_OP_ABI`, naming both versions, when it
 *   was built against another ABI
 */
export function loadOpLibrary(path: string): OpLibrary {
  return new OpLibrary(native().loadLibrary(resolve(path)));
}

/**
 * The ops of this package. `ops` has a typed function for each. Their CUDA functions are known once `devices()` or opening
 * a GPU has loaded the backend that brings them.
 */
export function builtinOps(): OpLibrary {
  return new OpLibrary(native().builtinLibrary());
}
