import { compose, loadModel, type Model, type Sequence } from '@accel/core';
import {
  describeDevices,
  expectClose,
  writeTinyCheckpoint,
  type TinyCheckpointOptions,
  errorWith,
} from '@accel/testkit';
import { expect, it } from 'vitest';
import { streamingllm, type StreamingllmOptions } from '../src/index.js';

describeDevices('StreamingLLM on a model', (device) => {
  const withModel = async (
    options: TinyCheckpointOptions,
    body: (model: Model) => Promise<void>,
  ): Promise<void> => {
    using checkpoint = writeTinyCheckpoint(options);
    using model = await loadModel(checkpoint.path, { device, dtype: 'float32', kvBytes: 32 << 20 });
    await body(model);
    expect(model.pool.usedBytes).toBe(0);
  };
  const sequenceOf = (model: Model, options: StreamingllmOptions): Sequence =>
    model.sequence({ policy: compose(streamingllm(options)) });
  const prompt = (count: number): number[] =>
    Array.from({ length: count }, (_, i) => (i * 37 + (i >> 3) * 11) % 256);

  it('a banded prompt equals the stream token by token', () =>
    withModel({ layers: 3 }, async (model) => {
      for (const positions of ['cacheRelative', 'original'] as const) {
        const options = { sink: 3, recent: 20, positions, prefill: 'banded' } as const;
        using whole = sequenceOf(model, options);
        using stepwise = sequenceOf(model, options);
        await whole.append(prompt(150));
        for (const id of prompt(150)) await stepwise.append([id]);
        expectClose(
          await whole.logits(),
          await stepwise.logits(),
          { abs: 2e-4, rel: 0 },
          positions,
        );
        // And so does a later turn.
        await whole.append(prompt(40));
        for (const id of prompt(40)) await stepwise.append([id]);
        expectClose(
          await whole.logits(),
          await stepwise.logits(),
          { abs: 2e-4, rel: 0 },
          `${positions}, turn 2`,
        );
      }
    }));

  it('goes on past the context length of the model, in constant memory', { timeout: 300_000 }, () =>
    withModel({ layers: 1, contextLength: 128 }, async (model) => {
      using sequence = sequenceOf(model, { sink: 4, recent: 60, prefill: 'banded' });
      await sequence.append(prompt(700));
      const sizes = new Set<number>();
      let drawn = 0;
      for await (const { index, finish } of sequence.generate({
        maxTokens: 20_000,
        ignoreEos: true,
        temperature: 1,
      })) {
        drawn += 1;
        if (index % 999 === 0) sizes.add(model.pool.usedBytes);
        expect(finish).toBe(index === 19_999 ? 'length' : undefined);
      }
      expect(drawn).toBe(20_000);
      expect(sequence.view().rows(0, 0)).toBe(64);
      const { pageBytes } = { pageBytes: 16 * model.spec.headDim * 4 };
      expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(
        3 * model.spec.kvHeads * pageBytes,
      );
      expect((await sequence.logits()).every(Number.isFinite)).toBe(true);
    }),
  );

  it('without sinks it is the cache of a model with a sliding window', () =>
    withModel({ family: 'mistral', config: { sliding_window: 24 } }, async (model) => {
      using exact = model.sequence();
      using ring = sequenceOf(model, { sink: 0, recent: 23, positions: 'original' });
      for (const sequence of [exact, ring]) {
        await sequence.append(prompt(100));
        await sequence.append(prompt(40));
        for await (const _ of sequence.generate({ maxTokens: 30, ignoreEos: true }));
      }
      expectClose(await ring.logits(), await exact.logits(), { abs: 1e-5, rel: 0 }, 'logits');
      expect(exact.view().rows(0, 0)).toBe(169);
      expect(ring.view().rows(0, 0)).toBe(23);
    }));

  it('refuses a dense prompt longer than the context of the model', () =>
    withModel({ contextLength: 128 }, async (model) => {
      using sequence = sequenceOf(model, { sink: 4, recent: 60 });
      await expect(sequence.append(prompt(129))).rejects.toMatchObject({
        code: 'ERR_ACCEL_PROMPT_TOO_LONG',
      });
      await sequence.append(prompt(120));
      // The cache is cut to 64 now, so 64 more fit, whatever the stream's length.
      await sequence.append(prompt(64));
      expect(sequence.length).toBe(184);
    }));

  it('makes room before a turn and evicts nothing during it', () =>
    withModel({}, async (model) => {
      using sequence = sequenceOf(model, { sink: 4, recent: 60, trim: 'turn', reserve: 10 });
      const rows = (): number => sequence.view().rows(1, 1);
      await sequence.append(prompt(50));
      expect(rows()).toBe(50);
      for await (const _ of sequence.generate({ maxTokens: 31, ignoreEos: true }));
      expect(rows()).toBe(80);
      // 80 + 20 + 1 drawn + 10 do not fit 64: the newest 60 - 31 and the sinks stay.
      await sequence.append(prompt(20));
      expect(rows()).toBe(4 + 60 - 31 + 21);
      const positions = [...(await sequence.view().positions(1, 1))];
      expect(positions.slice(0, 5)).toEqual([0, 1, 2, 3, 80 - 29]);
      expect(positions.at(-1)).toBe(100);
    }));

  it('takes a share of the first prompt', () =>
    withModel({}, async (model) => {
      using sequence = sequenceOf(model, { sink: 4, budget: { keep: 0.3 } });
      await sequence.append(prompt(99));
      expect(sequence.view().rows(0, 0)).toBe(29);
      await sequence.append(prompt(50));
      expect(sequence.view().rows(0, 0)).toBe(29);
    }));

  it('refuses positions inside the cache where frequencies change with the length', () =>
    withModel({ ropeScaling: { type: 'dynamic', factor: 2 } }, async (model) => {
      expect(() => sequenceOf(model, { positions: 'cacheRelative' })).toThrow(
        errorWith('ERR_ACCEL_POLICY'),
      );
      using sequence = sequenceOf(model, { positions: 'original', recent: 20 });
      await sequence.append(prompt(60));
      expect(sequence.view().rows(0, 0)).toBe(24);
    }));
});
