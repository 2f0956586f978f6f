import { parsePolicy } from '@accel/core';
import type { EvalMethod, WorkOrder } from '@accel/eval';
import { findMethod, requireMethod } from '../methods/registry.js';

/**
 * Makes the policies of an order, with the packages of the methods that are in them.
 *
 * @throws AccelError ERR_ACCEL_METHOD_UNKNOWN when one is not installed here; ERR_ACCEL_POLICY
 */
export async function readMethods({ methods }: WorkOrder): Promise<EvalMethod[]> {
  const ids = new Set(methods.flatMap(({ policy }) => policy.parts.map(({ id }) => id)));
  const packages = await Promise.all([...ids].map((id) => requireMethod(findMethod(id))));
  return methods.map(({ name, policy }) => ({ name, policy: parsePolicy(policy, packages) }));
}
