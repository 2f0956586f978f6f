import { describe, expect, test } from 'vitest';
import { ropeFrequencies } from '../../src/config/rope.js';
import type { RopeScaling } from '../../src/config/spec.js';

// Expected numbers: the definitions in transformers' modeling_rope_utils, evaluated in double precision in Python.
function frequencies(ropeTheta: number, rope: RopeScaling, length = 1): number[] {
  return [...ropeFrequencies({ ropeTheta, rope, rotaryDim: 16 }, length).invFreq];
}

function expectClose(got: readonly number[], want: readonly number[]): void {
  expect(got.length).toBe(want.length);
  for (const [i, value] of want.entries())
    expect(Math.abs((got[i] ?? NaN) / value - 1)).toBeLessThan(1e-12);
}

describe('rotary frequencies', () => {
  test('default and linear', () => {
    const plain = frequencies(10_000, { kind: 'default' });
    expectClose(plain, [1, 10 ** -0.5, 0.1, 10 ** -1.5, 0.01, 10 ** -2.5, 1e-3, 10 ** -3.5]);
    expectClose(
      frequencies(10_000, { kind: 'linear', factor: 4 }),
      plain.map((f) => f / 4),
    );
  });

  test('llama3, all three bands', () => {
    const rope: RopeScaling = {
      kind: 'llama3',
      factor: 8,
      lowFrequencyFactor: 1,
      highFrequencyFactor: 4,
      originalContext: 64,
    };
    expectClose(
      frequencies(5e5, rope),
      [
        1, 0.0794030091792082, 0.004700753866357992, 0.0009115830921521386, 0.00017677669529663688,
        3.428102195952591e-5, 6.647869871181236e-6, 1.2891731721515574e-6,
      ],
    );
  });

  test('dynamic is plain up to the original context and follows the length after it', () => {
    const rope: RopeScaling = { kind: 'dynamic', factor: 4, originalContext: 32 };
    const plain = frequencies(10_000, { kind: 'default' });
    for (const length of [1, 31, 32]) expectClose(frequencies(10_000, rope, length), plain);
    expectClose(
      frequencies(10_000, rope, 150),
      [
        1, 0.21328480699267197, 0.04549040889390133, 0.009702413080953475, 0.0020693773013343375,
        0.00044136673831011053, 9.413681959345707e-5, 2.0077953397894474e-5,
      ],
    );
    expect(frequencies(10_000, rope, 33)[7]).toBeLessThan(plain[7] ?? 0);
  });

  test('yarn, ramp ends rounded or not', () => {
    const yarn = {
      kind: 'yarn',
      factor: 4,
      betaFast: 32,
      betaSlow: 1,
      attentionFactor: 1.138629436111989,
    } as const;
    expectClose(
      frequencies(10_000, { ...yarn, originalContext: 4096, truncate: true }),
      [
        1, 0.31622776601683794, 0.1, 0.02569350598886808, 0.00625, 0.0013834964763236657, 0.00025,
        7.905694150420948e-5,
      ],
    );
    expectClose(
      frequencies(1e6, { ...yarn, originalContext: 32768, truncate: false }),
      [
        1, 0.17782794100389226, 0.03162277660168379, 0.0055172704751341225, 0.0006074079378798391,
        4.445698525097307e-5, 7.905694150420949e-6, 1.4058533129758728e-6,
      ],
    );
    const { scale } = ropeFrequencies(
      { ropeTheta: 1e4, rotaryDim: 16, rope: { ...yarn, originalContext: 4096, truncate: true } },
      1,
    );
    expect(scale).toBeCloseTo(0.1 * Math.log(4) + 1, 12);
  });
});
