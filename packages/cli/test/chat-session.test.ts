import { compose, loadModel, type Model, type Policy, type TokenEvent } from '@accel/core';
import { h2o } from '@accel/h2o';
import { kivi } from '@accel/kivi';
import { needlePath } from '@accel/needle';
import { snapkv } from '@accel/snapkv';
import { streamingllm } from '@accel/streamingllm';
import { describeDevices } from '@accel/testkit';
import { afterAll, beforeAll, expect, it } from 'vitest';

// A conversation in a compressed cache draws what a sequence draws that is given the same tokens by hand, whether the
// template leaves the last answer as it was drawn or makes the session go back before it.

const KEEPING =
  '<|begin_of_text|>{% for m in messages %}{{ m.role }}:{{ m.content }}<|pad|>\n{% endfor %}' +
  '{% if add_generation_prompt %}assistant:{% endif %}';
const REWRITING = KEEPING.replace(
  '{{ m.content }}',
  "{{ '...' if m.role == 'assistant' else m.content }}",
);
/** What a second turn adds to the first answer. */
const NEXT = '<|pad|>\nuser:What is green?<|pad|>\nassistant:';
const TEXT = 'The grass is green. The sky is blue. The sun is yellow. Here we go. ';
const budget = { tokens: 64 };
const policies: Record<string, () => Policy> = {
  SnapKV: () => compose(snapkv({ budget })),
  H2O: () => compose(h2o({ budget })),
  StreamingLLM: () => compose(streamingllm({ sink: 4, recent: 60 })),
  KIVI: () => compose(kivi({ bits: 4, residual: 32 })),
};

describeDevices('a session on a compressed cache', (device) => {
  let model: Model;
  beforeAll(async () => {
    model = await loadModel(needlePath, {
      device,
      dtype: device === 'cpu' ? 'float32' : 'bfloat16',
    });
  });
  afterAll(() => model.dispose());

  async function read(events: AsyncIterable<TokenEvent>): Promise<number[]> {
    const ids: number[] = [];
    for await (const { id } of events) ids.push(id);
    return ids;
  }

  for (const [name, policy] of Object.entries(policies)) {
    it.each([
      ['answer', KEEPING],
      ['question', REWRITING],
    ])(`${name}, behind the %s`, async (after, jinja) => {
      const options = { maxTokens: 8, ignoreEos: true };
      using session = model.session({ policy: policy(), template: { jinja } });
      using sequence = model.sequence({ policy: policy() });

      const first = await read(session.send(TEXT.repeat(12), options));
      await sequence.append(session.turn?.ids ?? []);
      using question = sequence.fork();
      expect(await read(sequence.generate(options))).toEqual(first);

      const second = await read(session.send('What is green?', options));
      expect(session.turn?.after).toBe(after);
      const { ids = Int32Array.of(), reused = 0 } = session.turn ?? {};
      const by = after === 'answer' ? sequence : question;
      expect(by.length).toBe(reused);
      const rest = (session.sequence?.length ?? 0) - reused - second.length;
      const text = model.tokenizer.decode(ids.slice(-rest));
      expect(text).toBe(after === 'answer' ? NEXT : `...${NEXT}`);
      await by.append(ids.slice(-rest));
      expect(await read(by.generate(options))).toEqual(second);
      expect(session.sequence?.receipt().kv.measuredBytes).toBe(by.receipt().kv.measuredBytes);
    });
  }
});
