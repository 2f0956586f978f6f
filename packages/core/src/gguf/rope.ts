import type { RopeScaling } from '../config/spec.js';
import type { ArchitectureKeys } from './keys.js';

/** Rotary settings of a GGUF file. */
export interface GgufRope {
  readonly theta: number;
  readonly scaling: RopeScaling;
  /** Positions that the scaled embedding is meant for. */
  readonly contextLength: number;
}

/**
 * Reads `rope.freq_base` and `rope.scaling.*`.
 * @param context the file's `context_length`
 * @param factors divisors of the frequencies, one for each rotated pair, from the tensor `rope_freqs.weight`: how
 *   converters write Llama 3.1's scaling
 */
export function readGgufRope(
  keys: ArchitectureKeys,
  context: number,
  factors: readonly number[] | undefined,
): GgufRope {
  const theta = keys.positive('rope.freq_base') ?? 10_000;
  const kind = keys.text('rope.scaling.type') ?? 'linear';
  // A factor of 0 stands for none.
  const given = keys.number('rope.scaling.factor') ?? keys.number('rope.scale_linear') ?? 0;
  const factor = given === 0 ? 1 : given;
  if (!(factor >= 1 && Number.isFinite(factor))) {
    throw keys.error('rope.scaling.factor', `is ${factor}; it must be at least 1.`);
  }
  if ((keys.number('rope.scaling.alpha') ?? 0) !== 0) {
    throw keys.error(
      'rope.scaling.alpha',
      'is given; this kind of rotary scaling is not supported.',
    );
  }
  switch (kind) {
    case 'none':
      return { theta, scaling: withFactors(factors, 1), contextLength: context };
    case 'linear':
      return {
        theta,
        scaling: withFactors(factors, factor),
        contextLength: Math.floor(context * factor),
      };
    case 'yarn':
      if (factors === undefined) return yarn(keys, theta, factor, context);
      throw keys.error(
        'rope.scaling.type',
        'is "yarn" and the file has rope_freqs.weight too; only one of them is supported.',
      );
    default:
      throw keys.error(
        'rope.scaling.type',
        `is "${kind.slice(0, 40)}"; supported are none, linear and yarn.`,
      );
  }
}

function withFactors(factors: readonly number[] | undefined, factor: number): RopeScaling {
  if (factors !== undefined) {
    return { kind: 'factors', factors: factors.map((value) => value * factor) };
  }
  return factor === 1 ? { kind: 'default' } : { kind: 'linear', factor };
}

function yarn(keys: ArchitectureKeys, theta: number, factor: number, context: number): GgufRope {
  if (theta <= 1) throw keys.error('rope.freq_base', `is ${theta}; YaRN needs a base above 1.`);
  const extrapolation = keys.number('rope.scaling.yarn_ext_factor') ?? 1;
  if (extrapolation !== 1) {
    throw keys.error('rope.scaling.yarn_ext_factor', `is ${extrapolation}; only 1 is supported.`);
  }
  const originalContext = keys.size('rope.scaling.original_context_length') ?? context;
  const term = (weight: number): number => (factor <= 1 ? 1 : 0.1 * weight * Math.log(factor) + 1);
  const all = keys.number('rope.scaling.yarn_log_multiplier') ?? 0;
  const usual = all === 0 ? term(1) : term(1) / term(all);
  return {
    theta,
    scaling: {
      kind: 'yarn',
      factor,
      originalContext,
      betaFast: keys.positive('rope.scaling.yarn_beta_fast') ?? 32,
      betaSlow: keys.positive('rope.scaling.yarn_beta_slow') ?? 1,
      attentionFactor:
        (keys.positive('rope.scaling.yarn_attn_factor') ?? usual) *
        (keys.positive('rope.scaling.attn_factor') ?? 1),
      truncate: true,
    },
    contextLength: Math.max(context, Math.floor(originalContext * factor)),
  };
}
