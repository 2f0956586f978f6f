import { AccelError } from '@accel/kernels';
import type { Check } from './check.js';
import { findProblems, findWarnings } from './legality.js';
import type { JsonObject, Part, Slot } from './part.js';

/** A part in a policy document. */
export interface PartJson {
  readonly id: string;
  readonly slot: Slot;
  readonly options: JsonObject;
}

/** A policy as a document. */
export interface PolicyJson {
  readonly version: 1;
  readonly parts: readonly PartJson[];
}

/** What is done to the cache of a sequence: parts that go together. Frozen, without state, to be shared freely. */
export interface Policy<P extends readonly Part[] = readonly Part[]> {
  readonly parts: P;
  /** Combinations that are legal but have no use, in words. */
  readonly warnings: readonly string[];
  /** The document that `parsePolicy` reads; `JSON.stringify` uses it. */
  toJSON(): PolicyJson;
}

/**
 * Joins parts to a policy. Parts that do not go together are compile errors that give the reason, and run-time errors
 * where the types do not tell. The order of the arguments has no meaning; slots are worked through in a fixed order.
 *
 * @throws AccelError `ERR_ACCEL_POLICY` with every reason
 * @example
 * compose(snapkv({ budget: { tokens: 1024 } }), kivi({ bits: 2 }))
 */
export function compose<const P extends readonly Part[]>(...parts: Check<P>): Policy<P> {
  // Check<P> is P whenever the call compiles.
  return makePolicy(parts as unknown as P);
}

/** The empty policy: nothing is evicted, attention is exact. */
export const full: Policy = makePolicy([]);

function makePolicy<P extends readonly Part[]>(parts: P): Policy<P> {
  const problems = findProblems(parts);
  if (problems.length > 0) {
    throw new AccelError(
      'ERR_ACCEL_POLICY',
      `These parts do not make a policy (${parts.map((part) => part.id).join(' + ')}): ${problems.join('; ')}. Leave one out or change its options.`,
    );
  }
  const frozen = Object.freeze([...parts]) as unknown as P;
  return Object.freeze({
    parts: frozen,
    warnings: Object.freeze(findWarnings(parts)),
    toJSON: (): PolicyJson => ({
      version: 1,
      parts: frozen.map(({ id, slot, options }) => ({ id, slot, options })),
    }),
  });
}
