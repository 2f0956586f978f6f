import type { ModelSpec, RopeScaling } from './spec.js';

/** Rotary frequencies of a model for a number of positions. */
export interface RopeParameters {
  /** Radians per position, `[rotaryDim / 2]`, highest frequency first. */
  readonly invFreq: Float64Array;
  /** Factor on cos and sin; 1 except for YaRN. */
  readonly scale: number;
}

/**
 * Rotary frequencies in double precision.
 *
 * Dynamic NTK scaling depends on how many positions there are, so it is worked out anew for each call of the model;
 * keys that are in the cache already keep the rotation they got.
 *
 * @param length positions seen so far, the tokens of the current call included
 */
export function ropeFrequencies(
  spec: Pick<ModelSpec, 'rope' | 'ropeTheta' | 'rotaryDim'>,
  length: number,
): RopeParameters {
  const { rope, ropeTheta: theta, rotaryDim: dim } = spec;
  switch (rope.kind) {
    case 'default':
      return { invFreq: powers(theta, dim), scale: 1 };
    case 'linear':
      return { invFreq: powers(theta, dim).map((f) => f / rope.factor), scale: 1 };
    case 'dynamic': {
      const stretch = (rope.factor * Math.max(rope.originalContext, length)) / rope.originalContext;
      const base = theta * (stretch - (rope.factor - 1)) ** (dim / (dim - 2));
      return { invFreq: powers(base, dim), scale: 1 };
    }
    case 'llama3':
      return { invFreq: powers(theta, dim).map((f) => llama3(f, rope)), scale: 1 };
    case 'factors':
      return { invFreq: powers(theta, dim).map((f, c) => f / (rope.factors[c] ?? 1)), scale: 1 };
    case 'yarn':
      return { invFreq: yarn(theta, dim, rope), scale: rope.attentionFactor };
  }
}

/** `theta^(-2c/dim)` for each pair c. */
function powers(theta: number, dim: number): Float64Array {
  return Float64Array.from({ length: dim / 2 }, (_, c) => theta ** ((-2 * c) / dim));
}

function llama3(frequency: number, rope: Extract<RopeScaling, { kind: 'llama3' }>): number {
  const { factor, lowFrequencyFactor: low, highFrequencyFactor: high, originalContext } = rope;
  const turns = (originalContext * frequency) / (2 * Math.PI);
  if (turns > high) return frequency;
  if (turns < low) return frequency / factor;
  const kept = (turns - low) / (high - low);
  return (1 - kept) * (frequency / factor) + kept * frequency;
}

function yarn(
  theta: number,
  dim: number,
  rope: Extract<RopeScaling, { kind: 'yarn' }>,
): Float64Array {
  // The pair whose wave turns `rotations` times within the original context.
  const pairOf = (rotations: number): number =>
    (dim * Math.log(rope.originalContext / (rotations * 2 * Math.PI))) / (2 * Math.log(theta));
  const first = pairOf(rope.betaFast);
  const last = pairOf(rope.betaSlow);
  const low = Math.max(rope.truncate ? Math.floor(first) : first, 0);
  const end = Math.min(rope.truncate ? Math.ceil(last) : last, dim - 1);
  const high = end === low ? end + 0.001 : end;
  return powers(theta, dim).map((frequency, c) => {
    const stretched = Math.min(1, Math.max(0, (c - low) / (high - low)));
    return (frequency / rope.factor) * stretched + frequency * (1 - stretched);
  });
}
