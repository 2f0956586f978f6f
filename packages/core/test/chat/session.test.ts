import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { answerOptions } from '../../src/chat/chat.js';
import { type GenerateOptions, loadModel, type Model, type TokenEvent } from '../../src/index.js';
import { describeDevices } from '../devices.js';
import { needleDir } from '../engine/support.js';
import { expectFailure } from '../shared.js';

/** Every message ends with a token that the model never draws, so answers end with `maxTokens`. */
const plain = {
  jinja:
    '<|begin_of_text|>{% for m in messages %}{{ m.role }}:{{ m.content }}<|pad|>\n{% endfor %}' +
    '{% if add_generation_prompt %}assistant:{% endif %}',
};
/** Answers of the past are shortened, as Qwen3's template leaves out thoughts. */
const shortening = {
  jinja: plain.jinja.replace(
    '{{ m.content }}',
    "{{ '...' if m.role == 'assistant' else m.content }}",
  ),
};
/** Every turn begins differently. */
const counting = { jinja: `{{ messages | length }} ${plain.jinja}` };

describeDevices('a chat', (device) => {
  let model: Model;
  beforeAll(async () => {
    model = await loadModel(needleDir, { device, dtype: 'float32' });
  });
  afterAll(() => {
    model.dispose();
  });

  async function read(events: AsyncIterable<TokenEvent>): Promise<TokenEvent[]> {
    const all: TokenEvent[] = [];
    for await (const event of events) all.push(event);
    return all;
  }
  const textOf = (events: readonly TokenEvent[]): string => events.map(({ text }) => text).join('');
  const short: GenerateOptions = { maxTokens: 6 };

  describe('model.chat', () => {
    test('answers the rendered conversation', async () => {
      const messages = [{ role: 'user', content: 'The grass is green.' }];
      const answer = await read(model.chat(messages, { template: plain, ...short }));
      const { ids } = model.prompt(messages, { template: plain });
      using sequence = model.sequence();
      await sequence.append(ids);
      expect(answer).toEqual(await read(sequence.generate(short)));
      expect(ids.filter((id) => id === 0)).toHaveLength(1);
    });

    test('ends with a stop token, and with ignoreEos goes on', async () => {
      const messages = [{ role: 'user', content: 'The grass is green.' }];
      const { stopIds } = model.prompt(messages, { template: plain });
      expect(stopIds).toEqual([1, 2]);
      const free = await read(model.chat(messages, { template: plain, maxTokens: 8 }));
      const word = free[2]?.id as number;
      const stopped = await read(
        model.chat(messages, { template: plain, maxTokens: 8, stopTokens: [word] }),
      );
      expect(stopped.at(-1)).toMatchObject({ id: word, text: '', finish: 'stop' });
      const ignoring = await read(
        model.chat(messages, { template: plain, maxTokens: 8, ignoreEos: true }),
      );
      expect(ignoring.map(({ id }) => id)).toEqual(free.map(({ id }) => id));
    });

    test("gives the template's stop ids to the generation", () => {
      expect(answerOptions({ maxTokens: 3, stopTokens: [7] }, [1, 2])).toEqual({
        maxTokens: 3,
        stopTokens: [1, 2, 7],
      });
      expect(answerOptions({ ignoreEos: true }, [1, 2])).toEqual({ ignoreEos: true });
    });

    test('returns all pages, also when its loop is left', async () => {
      const before = model.pool.usedBytes;
      for await (const _ of model.chat([{ role: 'user', content: 'a' }], { template: plain }))
        break;
      expect(model.pool.usedBytes).toBe(before);
    });

    test('without a template says what to do', async () => {
      await expectFailure(
        () => read(model.chat([{ role: 'user', content: 'a' }])),
        'ERR_ACCEL_TOKENIZER',
        'without a chat template',
        'template: { jinja }',
      );
    });
  });

  describe('a session', () => {
    test('feeds what is new and draws what a sequence with the same tokens draws', async () => {
      using session = model.session({ template: plain, system: 'Be brief.' });
      const first = await read(session.send('The grass is green.', short));
      const prompt = session.turn;
      expect(prompt).toMatchObject({ reused: 0, after: 'nothing' });
      const second = await read(session.send('The sky is blue.', short));
      const { turn, sequence } = session;
      const seen = [...(prompt?.ids ?? []), ...first.map(({ id }) => id)];
      expect(turn).toMatchObject({ reused: seen.length, after: 'answer' });
      expect(session.messages).toEqual([
        { role: 'system', content: 'Be brief.' },
        { role: 'user', content: 'The grass is green.' },
        { role: 'assistant', content: textOf(first) },
        { role: 'user', content: 'The sky is blue.' },
        { role: 'assistant', content: textOf(second) },
      ]);

      const tail = `<|pad|>\nuser:The sky is blue.<|pad|>\nassistant:`;
      const rest = model.tokenizer.encode(tail, { addSpecial: false });
      expect(sequence?.length).toBe(seen.length + rest.length + second.length);
      using fresh = model.sequence();
      await fresh.append([...seen, ...rest]);
      expect(await read(fresh.generate(short))).toEqual(second);
    });

    test('goes back before an answer that its template writes otherwise', async () => {
      using session = model.session({ template: shortening });
      const first = await read(session.send('The grass is green.', short));
      const question = session.turn?.ids.length;
      expect(first).toHaveLength(6);
      const second = await read(session.send('The sky is blue.', short));
      expect(session.turn).toMatchObject({ reused: question, after: 'question' });
      const third = await read(session.send('The sun is yellow.', short));
      expect(session.turn).toMatchObject({ after: 'question' });
      expect(session.sequence?.length).toBe((session.turn?.ids.length ?? 0) + third.length);

      const messages = session.messages.slice(0, 3);
      expect(await read(model.chat(messages, { template: shortening, ...short }))).toEqual(second);
    });

    test('starts anew when older text changes', async () => {
      using session = model.session({ template: counting });
      await read(session.send('The grass is green.', short));
      const second = await read(session.send('The sky is blue.', short));
      expect(session.turn).toMatchObject({ reused: 0, after: 'nothing' });
      const messages = session.messages.slice(0, 3);
      expect(await read(model.chat(messages, { template: counting, ...short }))).toEqual(second);
    });

    test('keeps what was drawn when the loop is left, and goes on from there', async () => {
      using session = model.session({ template: plain });
      let text = '';
      for await (const event of session.send('The grass is green.', short)) {
        text += event.text;
        if (event.index === 2) break;
      }
      expect(session.messages.at(-1)).toEqual({ role: 'assistant', content: text });
      const prompt = session.turn?.ids.length ?? 0;
      await read(session.send('The sky is blue.', short));
      expect(session.turn?.after).toBe('answer');
      expect(session.turn?.reused).toBe(prompt + 3);
    });

    test('an aborted turn leaves a conversation that goes on', async () => {
      using session = model.session({ template: plain });
      await expectFailure(
        () => read(session.send('a', { signal: AbortSignal.abort() })),
        'ERR_ACCEL_ABORTED',
      );
      expect(session.messages).toEqual([]);
      const controller = new AbortController();
      await expectFailure(async () => {
        for await (const { index } of session.send('a', { ...short, signal: controller.signal })) {
          if (index === 1) controller.abort();
        }
      }, 'ERR_ACCEL_ABORTED');
      expect(session.messages).toHaveLength(2);
      const answer = await read(session.send('b', short));
      const { sequence, turn } = session;
      expect(sequence?.length).toBe((turn?.ids.length ?? 0) + answer.length);
    });

    test('a message that got no answer is taken back, and found in the cache when it is said again', async () => {
      using session = model.session({ template: plain });
      const failing = session.send('The grass is green.', { maxTokens: 0 });
      await expectFailure(() => read(failing), 'ERR_ACCEL_ARGUMENT', 'maxTokens');
      expect(session.messages).toEqual([]);
      const answer = await read(session.send('The grass is green.', short));
      expect(session.turn?.reused).toBe(session.turn?.ids.length);
      const messages = session.messages.slice(0, 1);
      expect(await read(model.chat(messages, { template: plain, ...short }))).toEqual(answer);
    });

    test('takes messages and a history', async () => {
      const history = [
        { role: 'user', content: 'What is the weather?' },
        { role: 'assistant', content: '', tool_calls: [] },
      ];
      using session = model.session({ template: plain, messages: history });
      await read(session.send([{ role: 'tool', content: 'rain' }], short));
      await read(session.send({ role: 'user', content: 'Thanks' }, short));
      expect(session.messages.map(({ role }) => role)).toEqual([
        ...['user', 'assistant', 'tool', 'assistant', 'user', 'assistant'],
      ]);
      expect(session.turn?.text).toContain('tool:rain<|pad|>');
    });

    test('does one thing at a time, and returns its pages', async () => {
      const before = model.pool.usedBytes;
      const session = model.session({ template: plain });
      const answer = session.send('a', short);
      await answer.next();
      await expectFailure(() => read(session.send('b')), 'ERR_ACCEL_BUSY', 'still answering');
      await answer.return(undefined);
      await read(session.send('b', short));
      session.dispose();
      session.dispose();
      expect(model.pool.usedBytes).toBe(before);
      await expectFailure(() => read(session.send('c')), 'ERR_ACCEL_DISPOSED', 'model.session()');
    });
  });
});
