import {
  AccelError,
  estimateMemory,
  type FloatDType,
  type MemoryEstimate,
  type ModelDescription,
} from '@accel/core';
import type { NamedPolicy } from '../methods/policy.js';
import type { Card } from './cards.js';

/** What memory is estimated for. */
export interface MemoryGrid {
  readonly card: Card;
  readonly dtype: FloatDType;
  readonly contexts: readonly number[];
  readonly batches: readonly number[];
  readonly policies: readonly NamedPolicy[];
}

/** The estimates of one policy, or why there are none. */
export interface PolicyMemory {
  readonly policy: string;
  /** Why the policy does not go with the model. */
  readonly problem?: string;
  readonly cells: readonly MemoryCell[];
}

/** One estimate. */
export interface MemoryCell {
  readonly batch: number;
  readonly context: number;
  readonly estimate: MemoryEstimate;
  readonly fits: boolean;
}

/** Estimates every policy for every context and batch. A policy that the model cannot have is told, and the others go on. */
export function estimateGrid(
  { blueprint, stored }: ModelDescription,
  { card, dtype, contexts, batches, policies }: MemoryGrid,
): PolicyMemory[] {
  const { target, bytes } = card;
  return policies.map(({ name, policy }) => {
    try {
      const cells = batches.flatMap((batch) =>
        contexts.map((context): MemoryCell => {
          const question = { tokens: context, batch, policy, dtype, target, stored };
          // Prompts one after the other: what long ones are read like.
          const estimate = estimateMemory(blueprint, { ...question, together: false });
          return { batch, context, estimate, fits: estimate.total <= bytes };
        }),
      );
      return { policy: name, cells };
    } catch (error) {
      if (!AccelError.isInstance(error) || error.code !== 'ERR_ACCEL_POLICY') throw error;
      return { policy: name, problem: error.message, cells: [] };
    }
  });
}
