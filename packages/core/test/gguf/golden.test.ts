import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { loadModel } from '../../src/index.js';
import { describeDevices } from '../devices.js';
import { largestDifference, readGolden } from '../engine/support.js';
import { missing, shared } from '../shared.js';
import { folder } from '../weights/build.js';
import { convertGolden, type Storage } from './convert.js';
import { ggufBytes } from './writer.js';

interface Prompt {
  input_ids: number[];
  decode_ids: number[];
}

/** The limit that the goldens set for float32. */
const LOGITS = 5e-4;
// Dynamic rotary scaling has no GGUF form.
const names = [
  'llama-llama3rope',
  'llama-tied',
  'llama-linear',
  'mistral',
  'mistral-sliding',
  'qwen2',
  'qwen2-yarn',
  'qwen3',
  'glm',
  'glm4',
  'chatglm',
];

describeDevices('golden checkpoints as GGUF files', (device) =>
  describe.skipIf(missing)('against transformers', () => {
    const cases = names.flatMap((name) =>
      (['F32', 'BF16'] as const).map((storage): [string, Storage] => [name, storage]),
    );
    test.each(cases)('%s in %s', async (name, storage) => {
      const golden = join(shared, 'golden/models', name);
      const { prompts } = JSON.parse(readFileSync(join(golden, 'meta.json'), 'utf8')) as {
        prompts: Record<string, Prompt>;
      };
      const expected = readGolden(join(golden, 'expected.safetensors'));
      using dir = folder({ 'model.gguf': ggufBytes(await convertGolden(name, storage)) });
      using model = await loadModel(join(dir.path, 'model.gguf'), {
        device,
        dtype: 'float32',
        kvBytes: 64 << 20,
        contextLength: 4096,
      });
      expect(model.spec.dtype).toBe(storage === 'F32' ? 'float32' : 'bfloat16');
      expect(model.hasTokenizer).toBe(false);
      for (const [id, prompt] of Object.entries(prompts)) {
        using sequence = model.sequence();
        await sequence.append(prompt.input_ids, { logits: 4 });
        const prefill = expected.get(`${id}.prefill_logits`)?.data as Float32Array;
        expect(largestDifference(await sequence.logits(), prefill), id).toBeLessThan(LOGITS);
        const decode = expected.get(`${id}.decode_logits`)?.data as Float32Array;
        const vocab = model.spec.vocabSize;
        for (const [step, token] of prompt.decode_ids.entries()) {
          await sequence.append([token]);
          const want = decode.subarray(step * vocab, (step + 1) * vocab);
          expect(largestDifference(await sequence.logits(), want), id).toBeLessThan(LOGITS);
        }
      }
    });
  }),
);
