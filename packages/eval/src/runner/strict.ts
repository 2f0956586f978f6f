import { AccelError } from '@accel/core';
import { isFailed, type RunRecord } from './records.js';

/**
 * Parts of a method's policy that never acted on any prompt of a run: results under its name are those of full attention.
 * On a single prompt a part may have nothing to do; on all of them it was not tested.
 *
 * @returns a sentence for each method
 */
export function neverActed(records: readonly RunRecord[]): string[] {
  const methods = new Map<string, { acted: Map<string, number>; longest: number }>();
  for (const record of records) {
    if (isFailed(record) || record.receipt === undefined) continue;
    const seen = methods.get(record.method) ?? { acted: new Map<string, number>(), longest: 0 };
    methods.set(record.method, seen);
    seen.longest = Math.max(seen.longest, record.promptTokens);
    for (const [part, times] of Object.entries(record.receipt.acted)) {
      seen.acted.set(part, (seen.acted.get(part) ?? 0) + times);
    }
  }
  return [...methods].flatMap(([method, { acted, longest }]) => {
    const idle = [...acted].filter(([, times]) => times === 0).map(([part]) => part);
    if (idle.length === 0) return [];
    return [
      `${method}: ${idle.join(', ')} never acted in the whole run; the longest prompt had ${longest} tokens`,
    ];
  });
}

/** @throws AccelError ERR_ACCEL_STRICT when {@link neverActed} has something to say */
export function assertActed(records: readonly RunRecord[]): void {
  const problems = neverActed(records);
  if (problems.length === 0) return;
  throw new AccelError(
    'ERR_ACCEL_STRICT',
    `Strict mode: ${problems.join('; ')}. Use longer prompts or a smaller budget, or turn strict mode off. The records are kept.`,
  );
}
