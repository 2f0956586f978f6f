import { loadModel } from '@accel/core';
import { expect, it } from 'vitest';
import { describeShared } from '../golden.js';
import { LOGITS_TOLERANCE, tinyPath, tinyPrompt, type TinyLlama } from '../models.js';
import { expectClose } from '../tolerance.js';
import { SMALL, type Suite } from './types.js';

/** Frequencies of these do not change with the length, so every method takes them. */
const MODELS: readonly TinyLlama[] = ['llama-llama3rope', 'llama-tied', 'llama-linear'];

/** Real checkpoints: while everything fits the budget, a policy must not show in the logits. */
export function referenceTests({ policy, device }: Suite): void {
  describeShared('golden/models', () => {
    it.each(MODELS)('gives the reference logits of %s while everything fits', async (name) => {
      const { inputIds, decodeIds, prefillLogits, decodeLogits } = tinyPrompt(name, 'p0');
      using model = await loadModel(tinyPath(name), {
        device,
        dtype: 'float32',
        kvBytes: 16 << 20,
      });
      using sequence = model.sequence({ policy: policy(SMALL) });
      await sequence.append(inputIds, { logits: 4 });
      expectClose(
        await sequence.logits(),
        prefillLogits.data,
        LOGITS_TOLERANCE,
        'logits of the prompt',
      );
      const { vocabSize } = model.spec;
      for (const [step, id] of decodeIds.entries()) {
        await sequence.append([id]);
        const want = decodeLogits.data.subarray(step * vocabSize, (step + 1) * vocabSize);
        expectClose(await sequence.logits(), want, LOGITS_TOLERANCE, `logits of step ${step}`);
      }
      expect(sequence.view().rows(0, 0)).toBe(inputIds.length + decodeIds.length);
    });
  });
}
