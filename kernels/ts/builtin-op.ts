import { builtinOps, type Op } from './op-library.js';

const found = new Map<string, Op>();

/** @internal A built-in op, looked up once. */
export function op(name: string): Op {
  let op = found.get(name);
  if (op === undefined) found.set(name, (op = builtinOps().op(name)));
  return op;
}

/** @internal For `ranges` that are not given. */
export const NO_RANGES: Int32Array = new Int32Array(0);
