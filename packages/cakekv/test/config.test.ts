import { compose, readMethodConfig } from '@accel/core';
import { errorWith } from '@accel/testkit';
import { snapkv } from '@accel/snapkv';
import { describe, expect, it } from 'vitest';
import { cakeBudget, cakekv, method, tunedTaus, type CakeBudgetOptions } from '../src/index.js';

describe('configs', () => {
  it('paper.yaml has the values of the paper', async () => {
    const [budget, select] = await readMethodConfig(method.presets.paper, method);
    expect(budget?.options).toEqual({
      budget: { tokens: 1024 },
      observe: 32,
      gamma: 200,
      tau1: 1.6,
      tau2: 0.4,
      pool: 5,
      cascading: true,
      decodeOrder: 'positional',
    });
    expect(select?.options).toEqual(budget?.options);
  });

  it('loom.yaml has the values of the seed toolkit, under its keys', async () => {
    const [budget] = await readMethodConfig(method.presets.loom, method);
    expect(budget?.options).toEqual(cakekv({ tau1: 1.6, tau2: 0.4 })[0].options);
  });

  it('takes the seed toolkit’s keys, flags that are strings included', () => {
    const keys = {
      compress: 'True',
      cascading: 'False',
      cache_size: 128,
      window_size: 16,
      model_name: 'qwen2.5-7b-instruct',
      gamma: 50,
    };
    expect(method.fromConfig(keys)[0]?.options).toMatchObject({
      budget: { tokens: 128 },
      observe: 16,
      gamma: 50,
      tau1: 0.4,
      tau2: 0.6,
      cascading: false,
    });
  });

  it.each([{ compress: 'False' }, { compress: false }, { cascading: 'yes' }, { model_name: 7 }])(
    'refuses %o',
    (keys) => {
      expect(() => method.fromConfig(keys)).toThrow(
        errorWith('ERR_ACCEL_POLICY', Object.keys(keys)[0]),
      );
    },
  );

  it('refuses a model name beside temperatures', () => {
    expect(() => method.fromConfig({ model_name: 'llama3.1-8b-128k', tau1: 2 })).toThrow(
      errorWith('ERR_ACCEL_POLICY', 'model_name'),
    );
  });
});

describe('tunedTaus', () => {
  it('has the authors’ values, and 1 for everything else', () => {
    expect(tunedTaus('llama3.1-8b-128k', 128)).toEqual({ tau1: 1.6, tau2: 0.6 });
    expect(tunedTaus('llama3.1-8b-128k', 512)).toEqual({ tau1: 1, tau2: 1 });
    expect(tunedTaus('constructor', 1024)).toEqual({ tau1: 1, tau2: 1 });
  });
});

describe('parts', () => {
  it('are two, frozen, to be spread', () => {
    const parts = cakekv();
    expect(Object.isFrozen(parts)).toBe(true);
    expect(parts.map(({ id, slot }) => `${id} ${slot}`)).toEqual([
      'cakekv budget',
      'cakekv select',
    ]);
    const policy = compose(...parts);
    expect(policy.warnings).toEqual([]);
    expect(policy.toJSON().parts).toHaveLength(2);
  });

  it('ask for a second tally only where the order of storage matters', () => {
    expect(cakekv()[1].tallies).toEqual([{ kind: 'lastAttention', reduce: 'mean' }]);
    expect(cakekv({ decodeOrder: 'reference' })[1].tallies).toHaveLength(2);
  });

  it('give the budgets alone to another selector', () => {
    const policy = compose(snapkv({ budget: { tokens: 512 } }), cakeBudget({ tau1: 1.6 }));
    expect(policy.parts.map(({ slot }) => slot)).toEqual(['select', 'budget']);
    expect(method.fromConfig(cakeBudget({ observe: 2000 }).options)[0]?.options).toEqual(
      cakeBudget({ observe: 2000 }).options,
    );
    expect(() => cakeBudget({ gamma: 3 } as CakeBudgetOptions)).toThrow(
      errorWith('ERR_ACCEL_POLICY', 'gamma'),
    );
  });

  it('do not work without a selector', () => {
    // @ts-expect-error the types say so too
    expect(() => compose(cakeBudget())).toThrow(errorWith('ERR_ACCEL_POLICY', 'select'));
  });

  it('do not go with a second selector', () => {
    // @ts-expect-error the types say so too
    expect(() => compose(...cakekv(), snapkv())).toThrow(
      errorWith('ERR_ACCEL_POLICY', 'two select'),
    );
  });
});
