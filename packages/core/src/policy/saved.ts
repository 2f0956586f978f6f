import { AccelError } from '@accel/kernels';
import type { z } from 'zod';
import { describeIssues } from '../config/issues.js';
import type { JsonValue } from './part.js';

/** State of a part for one sequence that `Sequence.save` can write to a file. */
export interface Saveable {
  /**
   * What must be known between turns, for the part's `create` to make this state again; null when that is nothing. A state
   * without this method makes saving the sequence an error.
   */
  save?(): JsonValue;
}

/**
 * Checks what a part's `create` got back of its state, which comes from a file.
 * @param title name of the method for messages
 * @returns undefined for the state of a new sequence
 * @throws AccelError `ERR_ACCEL_SAVED_SEQUENCE`
 */
export function parseSaved<T>(
  title: string,
  schema: z.ZodType<T>,
  saved: JsonValue | undefined,
): T | undefined {
  if (saved === undefined) return undefined;
  const result = schema.safeParse(saved);
  if (result.success) return result.data;
  throw new AccelError(
    'ERR_ACCEL_SAVED_SEQUENCE',
    `The saved state of ${title} is not valid: ${describeIssues(result.error)}. The file is damaged, or another version of the method wrote it.`,
    { cause: result.error },
  );
}
