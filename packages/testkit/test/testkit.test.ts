import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  describeShared,
  encodeSafetensors,
  expectClose,
  generated,
  goldenCases,
  missing,
  readSafetensors,
  sharedPath,
  tinyPrompt,
  tokenMajor,
  writeTinyCheckpoint,
} from '../src/index.js';

describe('generator', () => {
  it('gives the numbers of the specification', () => {
    const first = [...generated(1, 4)];
    expect(first).toEqual([
      0.1467951536178589, 0.17678749561309814, 0.40826737880706787, 0.8555257320404053,
    ]);
    expect(generated(1, 1000)[999]).toBe(-0.35192012786865234);
    expect(generated(2, 1)[0]).toBe(-0.524692177772522);
    expect(generated(2, 1, 4)[0]).toBe(4 * -0.524692177772522);
  });

  it('turns head-major into token-major', () => {
    const data = Float32Array.from({ length: 12 }, (_, i) => i);
    expect([...tokenMajor(data, [2, 3, 2])]).toEqual([0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11]);
    expect([...tokenMajor(data, [2, 3, 2], 1, 2)]).toEqual([2, 3, 8, 9]);
  });
});

describe('expectClose', () => {
  const tolerance = { abs: 0.1, rel: 0.01 };
  it.each([
    ['inside', [1.1, 100.9], [1, 100]],
    ['equal infinities', [Infinity, -Infinity], [Infinity, -Infinity]],
  ])('accepts %s', (_, got, want) => expectClose(got, want, tolerance, 'x'));
  it.each([
    ['outside', [1.2], [1]],
    ['NaN', [NaN], [1]],
    ['an infinity', [Infinity], [1]],
    ['too few', [1], [1, 1]],
  ])('fails on %s', (_, got, want) => {
    expect(() => expectClose(got, want, tolerance, 'x')).toThrow(/x/);
  });
  it('wants identity when the tolerance says exact', () => {
    expect(() => expectClose([1 + 1e-7], [1], 'exact', 'x')).toThrow(/element 0/);
  });
});

describe('tiny checkpoint', () => {
  it('is a model directory that goes away', () => {
    const checkpoint = writeTinyCheckpoint({
      layers: 1,
      ropeScaling: { type: 'linear', factor: 2 },
    });
    const config = JSON.parse(readFileSync(join(checkpoint.path, 'config.json'), 'utf8')) as Record<
      string,
      unknown
    >;
    expect(config).toMatchObject({ num_hidden_layers: 1, rope_scaling: { factor: 2 } });
    const tensors = readSafetensors(join(checkpoint.path, 'model.safetensors'));
    expect(tensors.get('lm_head.weight')?.shape).toEqual([checkpoint.vocabSize, 32]);
    expect([...tensors.keys()].filter((name) => name.startsWith('model.layers.'))).toHaveLength(9);
    checkpoint.dispose();
    expect(existsSync(checkpoint.path)).toBe(false);
  });

  it('depends on its seed alone', () => {
    const weights = (seed: number): ArrayLike<number> | undefined => {
      using checkpoint = writeTinyCheckpoint({ seed });
      return readSafetensors(join(checkpoint.path, 'model.safetensors')).get('lm_head.weight')
        ?.data;
    };
    expect(weights(3)).toEqual(weights(3));
    expect(weights(4)).not.toEqual(weights(3));
  });

  it('aligns data', () => {
    const data = Float32Array.of(1, 2);
    const file = encodeSafetensors({ x: { dtype: 'F32', shape: [2], data } });
    expect(Number(new DataView(file.buffer, file.byteOffset).getBigUint64(0, true)) % 8).toBe(0);
  });
});

describe('reference data', () => {
  it('is missed with a reason', () => {
    expect(missing('no/such/file')).toMatch(/no\/such\/file.*ACCEL_SHARED/);
  });

  describeShared('golden', () => {
    it('has cases with tensors', () => {
      for (const method of ['snapkv', 'streamingllm']) {
        for (const golden of goldenCases(method))
          expect(golden.tolerance, golden.id).not.toEqual({});
      }
      const [first] = goldenCases('snapkv');
      expect(first?.tensor('k').shape).toHaveLength(3);
      expect(() => first?.tensor('none')).toThrow(/none/);
      expect(() => goldenCases('none')).toThrow(/none/);
    });

    it('has tiny models with prompts', () => {
      const prompt = tinyPrompt('llama-tied', 'p0');
      expect(prompt.inputIds).toHaveLength(37);
      expect(prompt.decodeLogits.shape[0]).toBe(8);
      expect(existsSync(sharedPath('golden/models/llama-tied/config.json'))).toBe(true);
    });
  });
});
