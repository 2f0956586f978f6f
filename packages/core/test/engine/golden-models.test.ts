import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { loadModel } from '../../src/index.js';
import { describeDevices } from '../devices.js';
import { largestDifference, missing, readGolden, shared } from './support.js';

interface Prompt {
  input_ids: number[];
  decode_ids: number[];
  greedy_ids: number[];
}

const LOGITS = 5e-4;
const names = [
  'llama-llama3rope',
  'llama-tied',
  'llama-linear',
  'llama-dynamic',
  'mistral',
  'mistral-sliding',
  'qwen2',
  'qwen2-yarn',
  'qwen3',
  'glm',
  'glm4',
  'chatglm',
];

describeDevices('tiny checkpoints', (device) =>
  describe.skipIf(missing)('against transformers', () => {
    for (const name of names) {
      const dir = join(shared, 'golden/models', name);
      for (const id of ['p0', 'p1']) {
        for (const chunkTokens of [512, 16]) {
          test(`${name} ${id} in chunks of ${String(chunkTokens)}`, async () => {
            const meta = JSON.parse(readFileSync(join(dir, 'meta.json'), 'utf8')) as {
              prompts: Record<string, Prompt>;
            };
            const prompt = meta.prompts[id] as Prompt;
            const expected = readGolden(join(dir, 'expected.safetensors'));
            using model = await loadModel(dir, {
              device,
              dtype: 'float32',
              kvBytes: 64 << 20,
              chunkTokens,
              // qwen2-yarn is made for 128 positions, and the reference went on to 158.
              contextLength: 4096,
            });
            using sequence = model.sequence();
            await sequence.append(prompt.input_ids, { logits: 4 });
            const prefill = expected.get(`${id}.prefill_logits`)?.data as Float32Array;
            expect(largestDifference(await sequence.logits(), prefill)).toBeLessThan(LOGITS);
            using forced = sequence.fork();
            const vocab = model.spec.vocabSize;
            const decode = expected.get(`${id}.decode_logits`)?.data as Float32Array;
            for (const [step, token] of prompt.decode_ids.entries()) {
              await forced.append([token]);
              const want = decode.subarray(step * vocab, (step + 1) * vocab);
              expect(largestDifference(await forced.logits(), want)).toBeLessThan(LOGITS);
            }
            const ids: number[] = [];
            for await (const { id: drawn } of sequence.generate({
              maxTokens: prompt.greedy_ids.length,
              ignoreEos: true,
            })) {
              ids.push(drawn);
            }
            expect(ids).toEqual(prompt.greedy_ids);
          });
        }
      }
    }
  }),
);
