import { full, loadModel, type Model } from '@accel/core';
import { describe, expect, it } from 'vitest';
import { writeTinyCheckpoint } from '../checkpoint.js';
import { expectClose } from '../tolerance.js';
import { draw, keptRows, RowCount, expectRows, tokens } from './helpers.js';
import { LONG_PROMPT, SHORT_PROMPT, SMALL, type Suite } from './types.js';

/** Positions that tokens of the model see: less than a short prompt has, so that the window matters. */
const WINDOW = 20;

/** A model whose tokens see the newest positions only. */
export function windowTests(suite: Suite): void {
  const { policy, device } = suite;
  /** Calls `body` with a model that differs in its window alone. */
  const withWindow = async <T>(
    sliding_window: number | null,
    body: (model: Model) => Promise<T>,
  ): Promise<T> => {
    using checkpoint = writeTinyCheckpoint({ family: 'mistral', config: { sliding_window } });
    const options = { device, dtype: 'float32', kvBytes: 32 << 20 } as const;
    using model = await loadModel(checkpoint.path, options);
    const result = await body(model);
    expect(model.pool.usedBytes, 'pages still in use').toBe(0);
    return result;
  };

  describe('on a model with a sliding window', () => {
    it('is exact while the prompt fits', async () => {
      const prompt = tokens(SHORT_PROMPT, 50);
      const logits = await withWindow(WINDOW, async (model) => {
        using sequence = model.sequence({ policy: policy(SMALL) });
        using reference = model.sequence({ policy: full });
        await sequence.append(prompt);
        await reference.append(prompt);
        const want = await reference.logits();
        expectClose(await sequence.logits(), want, { abs: 1e-5, rel: 0 }, 'logits');
        // Below the budget and beyond the window.
        expect(await draw(sequence, 8)).toEqual(await draw(reference, 8));
        return want;
      });
      const without = await withWindow(null, async (model) => {
        using reference = model.sequence({ policy: full });
        await reference.append(prompt);
        return await reference.logits();
      });
      expect(without).not.toEqual(logits);
    });

    it('keeps the agreed rows of a long prompt, through decoding and a later turn', () =>
      withWindow(WINDOW, async (model) => {
        using sequence = model.sequence({ policy: policy(SMALL) });
        const expected = new RowCount(suite, SMALL);
        await sequence.append(tokens(LONG_PROMPT, 51));
        expected.append(LONG_PROMPT);
        await draw(sequence, 9);
        expected.decode(8);
        await sequence.append(tokens(30, 52));
        expected.append(31);
        await expectRows(sequence, expected.rows, 'after turn 2');
        expect((await sequence.logits()).every(Number.isFinite)).toBe(true);
      }));

    it('sees everything through a window that is wider than the stream', async () => {
      const run = (width: number | null): Promise<unknown> =>
        withWindow(width, async (model) => {
          using sequence = model.sequence({ policy: policy(SMALL) });
          await sequence.append(tokens(LONG_PROMPT, 53));
          const ids = await draw(sequence, 12);
          await sequence.append(tokens(40, 54));
          return { ids, rows: await keptRows(sequence) };
        });
      expect(await run(LONG_PROMPT + 100)).toEqual(await run(null));
    });
  });
}
