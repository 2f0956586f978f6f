import { generateBatch, type Model, type Policy } from '@accel/core';
import { expect } from 'vitest';
import { draw } from './conformance/helpers.js';
import { byteTokens } from './generator.js';

/** A sequence of {@link expectSideBySide}. */
export interface SideBySide {
  readonly policy: Policy;
  /** Tokens of its prompt. */
  readonly length: number;
}

/** Sequences that are decoded in one batch draw the `count` tokens that each draws alone. */
export async function expectSideBySide(
  model: Model,
  cases: readonly SideBySide[],
  count: number,
): Promise<void> {
  const run = async (together: boolean): Promise<number[][]> => {
    const sequences = cases.map(({ policy }) => model.sequence({ policy }));
    try {
      for (const [i, sequence] of sequences.entries())
        await sequence.append(byteTokens(cases[i]?.length ?? 1, i + 20));
      const ids: number[][] = sequences.map(() => []);
      if (!together) {
        for (const [i, sequence] of sequences.entries()) ids[i] = await draw(sequence, count);
        return ids;
      }
      const options = { maxTokens: count, ignoreEos: true };
      for await (const { sequence, id } of generateBatch(sequences, options))
        ids[sequence]?.push(id);
      return ids;
    } finally {
      for (const sequence of sequences) sequence.dispose();
    }
  };
  expect(await run(true)).toEqual(await run(false));
}
