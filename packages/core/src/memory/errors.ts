import { AccelError } from '@accel/kernels';
import type { Part } from '../policy/part.js';

/** A part has no `forecast`, so nothing can be said about the memory of its policy. */
export function cannotTell({ id, slot }: Part): AccelError {
  return new AccelError(
    'ERR_ACCEL_POLICY',
    `${id} (slot ${slot}) does not say how many rows it keeps, so the memory of its policy cannot be estimated. Give the part a forecast().`,
  );
}
