import { encodeOnce, spreadStarts } from '../benchmark/text-windows.js';
import type { PromptMeter } from '../benchmark/types.js';

/** An essay, from which haystacks are cut. */
export interface Hay {
  /**
   * A stretch of the essay, which repeats when it is too short.
   * @param round 0 begins where the essay begins, others elsewhere
   * @param tokens how many, above 0
   */
  take(round: number, tokens: number): Int32Array;
}

/** Encodes an essay that is not empty; all lengths and depths share the tokens. */
export function hayOf(essay: string, seed: number, meter: PromptMeter): Hay {
  const ids = encodeOnce(essay, meter);
  const startOf = spreadStarts(ids.length, seed);
  return {
    take(round, tokens) {
      const start = round === 0 ? 0 : startOf(round);
      return Int32Array.from({ length: tokens }, (_, i) => ids[(start + i) % ids.length] ?? 0);
    },
  };
}
