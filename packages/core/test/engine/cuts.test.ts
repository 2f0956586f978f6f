import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  appendBatch,
  compose,
  freezePart,
  full,
  loadModel,
  type Allocator,
  type Model,
  type PartSetup,
} from '../../src/index.js';
import { describeDevices } from '../devices.js';
import { cascade, oldest } from './parts.js';
import { needleDir, someTokens } from './support.js';

describeDevices('a budget part that decides late', (device) => {
  let model: Model;
  beforeAll(async () => {
    model = await loadModel(needleDir, { device, dtype: 'float32' });
  });
  afterAll(() => {
    model.dispose();
  });
  const policy = compose(oldest(100, 4), cascade(400));

  test('cuts layers again as later ones finish, and the best rows stay', async () => {
    using sequence = model.sequence({ policy, strict: true });
    await sequence.append(someTokens(300, model.spec.vocabSize));
    const rows = 400 / 8;
    const want = [...Array.from({ length: rows - 4 }, (_, i) => i), 296, 297, 298, 299];
    for (let layer = 0; layer < 8; layer++) {
      for (let head = 0; head < 2; head++)
        expect([...(await sequence.view().positions(layer, head))]).toEqual(want);
    }
    const receipt = sequence.receipt();
    // Layer 0 is cut from 300 to 300, 200, 133, …, 50: seven of eight times something leaves.
    for (const part of receipt.parts) expect(part.acted, part.id).toBeGreaterThan(8);
    expect(receipt.layers.map(({ rowsKept }) => rowsKept)).toEqual(
      Array.from({ length: 8 }, () => [rows, rows]),
    );
  });

  test('holds at most two uncut layers while a prompt is read', async () => {
    const prompt = someTokens(2000, model.spec.vocabSize);
    const peak = async (own: typeof full): Promise<number> => {
      using sequence = model.sequence({ policy: own });
      model.pool.resetPeak();
      await sequence.append(prompt);
      return model.pool.peakBytes;
    };
    const whole = await peak(full);
    expect(await peak(policy)).toBeLessThan((2.2 / 8 + 400 / (8 * 2000)) * whole);
  });

  test('gives every page back when the prompt is aborted in between', async () => {
    const sequence = model.sequence({ policy });
    const controller = new AbortController();
    const aborted = sequence.append(someTokens(200, model.spec.vocabSize), {
      signal: controller.signal,
      onProgress: ({ layer }) => {
        if (layer === 3) controller.abort();
      },
    });
    await expect(aborted).rejects.toMatchObject({ code: 'ERR_ACCEL_ABORTED' });
    expect(sequence.view().rows(0, 0)).toBe(0);
    sequence.dispose();
    expect(model.pool.usedBytes).toBe(0);
  });

  test('that never decides is an error, and the sequence is as before', async () => {
    const part = cascade(400);
    const silent = freezePart({
      ...part,
      create: (setup: PartSetup): Allocator => ({
        prefillEnd: () => undefined,
        fork: () => silent.create(setup),
        dispose: () => undefined,
      }),
    });
    const sequence = model.sequence({ policy: compose(oldest(100, 4), silent) });
    const prompt = sequence.append(someTokens(200, model.spec.vocabSize));
    await expect(prompt).rejects.toMatchObject({ code: 'ERR_ACCEL_POLICY' });
    sequence.dispose();
    expect(model.pool.usedBytes).toBe(0);
  });

  test('decides for every sequence of a batch by itself', async () => {
    const sequences = [policy, full, compose(oldest(100, 4), cascade(160))].map((own) =>
      model.sequence({ policy: own }),
    );
    const tokens = someTokens(120, model.spec.vocabSize);
    await appendBatch(sequences.map((sequence) => ({ sequence, tokens })));
    expect(sequences.map((sequence) => sequence.view().rows(5, 1))).toEqual([50, 120, 20]);
    for (const sequence of sequences) sequence.dispose();
  });
});
