import { AccelError } from '@accel/kernels';
import { z } from 'zod';
import { describeIssues } from '../config/issues.js';
import { assemble, type NamedParts } from './assemble.js';
import { compose, type Policy } from './compose.js';
import { type Method, MethodRegistry } from './method.js';
import { type JsonObject, slots } from './part.js';

const json: z.ZodType<JsonObject> = z.record(z.string(), z.json());

const partSchema = z.preprocess(
  (part) => (typeof part === 'string' ? { id: part } : part),
  z.strictObject({
    id: z.string(),
    /** Without one: every part of the method. */
    slot: z.enum(slots).optional(),
    options: json.default({}),
  }),
);

const policySchema = z.strictObject({
  version: z.literal(1).default(1),
  parts: z.array(partSchema).max(slots.length * 2),
});

/**
 * Makes a policy from a document: what `policy.toJSON()` gives, or one written by hand,
 * `{ "parts": ["snapkv", { "id": "kivi", "options": { "bits": 2 } }] }`. An entry without a slot stands for its method,
 * and methods go together as {@link assemble} says; one with a slot insists on that part. Legality is checked with the same
 * table as in {@link compose}.
 *
 * @param methods the methods that may occur
 * @throws AccelError `ERR_ACCEL_POLICY`, `ERR_ACCEL_METHOD_UNKNOWN`, `ERR_ACCEL_BUDGET`
 */
export function parsePolicy(document: unknown, methods: Iterable<Method>): Policy {
  const result = policySchema.safeParse(document);
  if (!result.success) {
    throw new AccelError(
      'ERR_ACCEL_POLICY',
      `This is not a policy: ${describeIssues(result.error, document)}. It looks like { "parts": [{ "id": "snapkv", "options": { } }] }.`,
      { cause: result.error },
    );
  }
  const registry = methods instanceof MethodRegistry ? methods : new MethodRegistry(methods);
  const named = result.data.parts.map(({ id, slot, options }): NamedParts => {
    const method = registry.get(id);
    const made = method.fromConfig(options);
    if (slot === undefined) return { method, parts: made };
    // A document lists the parts of a method one by one, and making one of them may make its companions too.
    const own = made.filter((part) => part.slot === slot && part.id === method.id);
    if (own.length > 0) return { method: { id: method.id, title: method.title }, parts: own };
    throw new AccelError(
      'ERR_ACCEL_POLICY',
      `${method.title} has no ${slot} part. It has: ${method.slots.join(', ')}.`,
    );
  });
  return compose(...assemble(named));
}
