import { isDeepStrictEqual } from 'node:util';
import { AccelError } from '@accel/kernels';
import { full, type Policy, type PolicyJson } from '../policy/compose.js';
import { parsePolicy } from '../policy/parse.js';
import { slots } from '../policy/part.js';
import { unusable } from './files.js';
import type { RestoreOptions } from './restore.js';

/**
 * The policy that a sequence goes on with: the caller's, which must be the one it was saved with, or one made again.
 * @throws AccelError `ERR_ACCEL_SAVED_SEQUENCE`, `ERR_ACCEL_POLICY`, `ERR_ACCEL_METHOD_UNKNOWN`, `ERR_ACCEL_BUDGET`
 */
export function policyOf(
  path: string,
  saved: PolicyJson,
  { policy, methods }: RestoreOptions,
): Policy {
  if (policy !== undefined) {
    const other = differentPart(saved, policy.toJSON());
    if (other === undefined) return policy;
    throw unusable(path, `was saved with another policy: ${other}`);
  }
  if (methods !== undefined) return parsePolicy(saved, methods);
  if (saved.parts.length === 0) return full;
  throw new AccelError(
    'ERR_ACCEL_POLICY',
    `${path} was saved with the policy ${saved.parts.map(({ id }) => id).join(' + ')}. Give restore() that policy, or the methods that it is made of.`,
  );
}

/** The first slot in which two policies differ, in words. */
function differentPart(saved: PolicyJson, given: PolicyJson): string | undefined {
  for (const slot of slots) {
    const [then, now] = [saved, given].map(({ parts }) => {
      const part = parts.find((one) => one.slot === slot);
      // As JSON, where keys that are undefined are left out.
      return part && (JSON.parse(JSON.stringify(part)) as typeof part);
    });
    if (isDeepStrictEqual(then, now)) continue;
    const words = (part: typeof then): string =>
      part === undefined ? 'nothing' : `${part.id} ${JSON.stringify(part.options)}`;
    return `in slot ${slot} it had ${words(then)}, and the one given has ${words(now)}`;
  }
  return undefined;
}
