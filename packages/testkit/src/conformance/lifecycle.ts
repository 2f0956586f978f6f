import { loadModel } from '@accel/core';
import { describe, expect, it } from 'vitest';
import { writeTinyCheckpoint } from '../checkpoint.js';
import { expectClose } from '../tolerance.js';
import { draw, expectRows, keptRows, RowCount, tokens } from './helpers.js';
import { LONG_PROMPT, SMALL, type Suite } from './types.js';

const LOGITS = { abs: 2e-4, rel: 0 };

/** One sequence over time. */
export function lifecycleTests(suite: Suite): void {
  const { policy } = suite;

  it('compresses the second prompt on a model as the first', async () => {
    const prompt = tokens(LONG_PROMPT, 20);
    const runs = [];
    for (let i = 0; i < 3; i++) {
      // The same policy object, so state that hides in it would show.
      using sequence = suite.model().sequence({ policy: shared });
      await sequence.append(prompt);
      const rows = await keptRows(sequence);
      runs.push({ rows, logits: await sequence.logits(), ids: await draw(sequence, 12) });
    }
    expect(runs[1]).toEqual(runs[0]);
    expect(runs[2]).toEqual(runs[0]);
  });
  const shared = policy(SMALL);

  it('gives the same ids and keeps the same rows for the same seed', async () => {
    const prompt = tokens(LONG_PROMPT, 21);
    const run = async (seed: number): Promise<unknown> => {
      using sequence = suite.model().sequence({ policy: policy(SMALL) });
      await sequence.append(prompt);
      const ids = await draw(sequence, 24, { temperature: 1, topP: 0.95, seed });
      return { ids, rows: await keptRows(sequence) };
    };
    const first = await run(7);
    expect(await run(7)).toEqual(first);
    expect(await run(8)).not.toEqual(first);
  });

  it('does not depend on how the prompt is cut into chunks', async () => {
    using checkpoint = writeTinyCheckpoint();
    const prompt = tokens(LONG_PROMPT, 22);
    const run = async (
      chunkTokens: number,
    ): Promise<{ rows: Int32Array[][]; logits: Float32Array }> => {
      const options = {
        device: suite.device,
        dtype: 'float32',
        kvBytes: 16 << 20,
        chunkTokens,
      } as const;
      using model = await loadModel(checkpoint.path, options);
      using sequence = model.sequence({ policy: policy(SMALL) });
      await sequence.append(prompt);
      await sequence.append(tokens(40, 23));
      return { rows: await keptRows(sequence), logits: await sequence.logits() };
    };
    const whole = await run(4096);
    for (const chunkTokens of [1, 7, 16]) {
      const { rows, logits } = await run(chunkTokens);
      expect(rows, `chunks of ${chunkTokens}`).toEqual(whole.rows);
      expectClose(logits, whole.logits, LOGITS, `logits, chunks of ${chunkTokens}`);
    }
  });

  it('runs a later turn causally on the compressed cache', async () => {
    const turn = tokens(6, 25);
    using parent = suite.model().sequence({ policy: policy(SMALL) });
    await parent.append(tokens(LONG_PROMPT, 24));
    using whole = parent.fork();
    await whole.append(turn, { logits: turn.length });
    const all = await whole.logits();
    const vocab = suite.model().spec.vocabSize;
    for (let length = 1; length <= turn.length; length++) {
      // What a token predicts must not depend on the tokens after it.
      using part = parent.fork();
      await part.append(turn.subarray(0, length));
      const row = all.subarray((length - 1) * vocab, length * vocab);
      expectClose(row, await part.logits(), LOGITS, `logits of token ${length} of the turn`);
    }
  });

  it('continues positions where the stream is, not where the cache is', async () => {
    using sequence = suite.model().sequence({ policy: policy(SMALL) });
    await sequence.append(tokens(LONG_PROMPT, 26));
    await sequence.append(tokens(10, 27));
    for (const heads of await keptRows(sequence)) {
      for (const positions of heads) expect(positions.at(-1)).toBe(LONG_PROMPT + 9);
    }
  });

  describe('in bfloat16', () => {
    it('keeps the same budget and stays finite', async () => {
      using checkpoint = writeTinyCheckpoint();
      const options = { device: suite.device, dtype: 'bfloat16', kvBytes: 16 << 20 } as const;
      using model = await loadModel(checkpoint.path, options);
      using sequence = model.sequence({ policy: policy(SMALL) });
      const expected = new RowCount(suite, SMALL);
      await sequence.append(tokens(LONG_PROMPT, 28));
      expected.append(LONG_PROMPT);
      await draw(sequence, 5);
      expected.decode(4);
      await expectRows(sequence, expected.rows, 'in bfloat16');
      expect((await sequence.logits()).every(Number.isFinite)).toBe(true);
    });
  });
}
