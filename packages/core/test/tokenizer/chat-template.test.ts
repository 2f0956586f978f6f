import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ChatTemplate } from '../../src/tokenizer/chat-template.js';
import type { ChatMessage, ChatTool } from '../../src/tokenizer/messages.js';
import { expectFailure, failure, missing, shared } from '../shared.js';
import { goldenTokenizer } from './goldens.js';

interface ChatGolden {
  special_tokens?: Record<string, string>;
  /** Name of the tokenizer golden whose ids are given. */
  tokenizer: string | null;
  cases: {
    messages: ChatMessage[];
    tools?: ChatTool[];
    add_generation_prompt: boolean;
    kwargs?: Record<string, unknown>;
    rendered?: string;
    error?: string;
    ids?: number[];
  }[];
}

function golden(name: string): ChatGolden {
  return JSON.parse(readShared(`${name}.json`)) as ChatGolden;
}

function readShared(name: string): string {
  return readFileSync(join(shared, 'golden/chat-templates', name), 'utf8');
}

const names = [
  'llama-3.1-instruct',
  'qwen2.5-instruct',
  'qwen3',
  'glm-4-9b-chat',
  'mistral-7b-instruct-v0.2',
];

describe.skipIf(missing)('chat templates against transformers', () => {
  test.each(names)('%s', async (name) => {
    const { special_tokens: special = {}, tokenizer: named, cases } = golden(name);
    const template = new ChatTemplate({ default: readShared(`${name}.jinja`) }, special);
    const tokenizer = named === null ? undefined : await goldenTokenizer(named);
    let compared = 0;
    for (const { messages, tools, add_generation_prompt, kwargs, ...expected } of cases) {
      const render = (): string =>
        template.render(messages, {
          addGenerationPrompt: add_generation_prompt,
          ...(tools && { tools }),
          ...(kwargs && { variables: kwargs }),
        });
      if (expected.error !== undefined) {
        await expectFailure(render, 'ERR_ACCEL_TOKENIZER', expected.error);
        continue;
      }
      const text = render();
      expect(text).toBe(expected.rendered);
      if (expected.ids === undefined) continue;
      expect([...(tokenizer?.encode(text, { addSpecial: false }) ?? [])]).toEqual(expected.ids);
      compared++;
    }
    const withIds = cases.filter(({ ids }) => ids !== undefined).length;
    expect(compared).toBe(withIds);
    if (named !== null) expect(withIds).toBeGreaterThan(0);
  });

  // Its ids come from Mistral's own encoder; there is no template.
  test('mistral-7b-instruct-v0.3', async () => {
    const tokenizer = await goldenTokenizer('mistral-v3');
    const cases = golden('mistral-7b-instruct-v0.3').cases.filter(({ rendered }) => rendered);
    expect(cases).toHaveLength(5);
    for (const { rendered = '', ids } of cases) {
      expect([...tokenizer.encode(rendered, { addSpecial: false })], rendered).toEqual(ids);
      // The text begins with <s>, so asking for special tokens does not give a second one.
      expect([...tokenizer.encode(rendered)], rendered).toEqual(ids);
    }
  });

  test('white space at the end of a past answer stays as Qwen3 writes it', () => {
    const template = new ChatTemplate({ default: readShared('qwen3.jinja') }, {});
    const messages = [
      { role: 'user', content: 'q' },
      { role: 'assistant', content: '  two spaces before\n' },
    ];
    // transformers 5.17.0 and jinja2 3.1.6 give this; only line breaks are stripped.
    expect(template.render(messages, { addGenerationPrompt: false })).toBe(
      '<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n  two spaces before\n<|im_end|>\n',
    );
  });
});

const tool: ChatTool = {
  type: 'function',
  function: { name: 'look_up', parameters: { type: 'object', properties: {} } },
};

describe('a chat template', () => {
  const render = (source: string, ...more: Parameters<ChatTemplate['render']>): string =>
    new ChatTemplate({ default: source }, {}).render(...more);
  const say = [{ role: 'user', content: 'hi' }];

  test('knows tools and documents as transformers does: always defined', () => {
    const source =
      '{{ tools is defined }} {{ tools is none }} {{ documents is none }} {{ (tools or []) | length }}';
    expect(render(source, say)).toBe('True True True 0');
    expect(render(source, say, { tools: [] })).toBe('True True True 0');
    expect(render(source, say, { tools: [tool] })).toBe('True False True 1');
    const list = '{% for d in documents %}{{ loop.index }}:{{ d.title }};{% endfor %}';
    expect(render(list, say, { documents: [{ title: 'a' }, { title: 'b' }] })).toBe('1:a;2:b;');
  });

  test('takes variables and a date', () => {
    const source = "{{ date_string if date_string is defined else strftime_now('%d %b %Y') }}";
    expect(render(source, say, { now: new Date(2026, 10, 7) })).toBe('07 Nov 2026');
    expect(render(source, say, { variables: { date_string: 'a Sunday' } })).toBe('a Sunday');
  });

  test('joins parts of a content, unless it goes through them itself', () => {
    const parts: ChatMessage[] = [
      {
        role: 'user',
        content: [
          { type: 'text', text: 'one ' },
          { type: 'text', text: 'two' },
        ],
      },
    ];
    expect(render("{{ 'user: ' + messages[0].content }}", parts)).toBe('user: one two');
    const loop =
      "{% for m in messages %}{% for p in m['content'] %}[{{ p.text }}]{% endfor %}{% endfor %}";
    expect(render(loop, parts)).toBe('[one ][two]');
    const image = [{ role: 'user', content: [{ type: 'image' }] as never }];
    expect(() => render("{{ 'user: ' + messages[0].content }}", image)).toThrow(
      /refuses these messages: cannot add a list to a text/,
    );
  });

  test('another template can be given', () => {
    const own = { jinja: '{{ bos_token }}{{ messages[0].content }}!' };
    const none = new ChatTemplate({}, { bos_token: '<s>' });
    expect(none.render(say, { template: own })).toBe('<s>hi!');
    expect(() => none.render(say)).toThrow(/without a chat template/);
  });
});

describe.skipIf(missing)('a tokenizer with templates', () => {
  const messages = [{ role: 'user', content: 'hi' }];
  const load = (files: Record<string, unknown>): ReturnType<typeof goldenTokenizer> =>
    goldenTokenizer(
      'needle-7m',
      Object.fromEntries(
        Object.entries(files).map(([name, value]) => [
          name,
          typeof value === 'string' ? value : JSON.stringify(value),
        ]),
      ),
    );

  test('takes them from a file of their own, or from the config', async () => {
    const config = { chat_template: '{{ bos_token }}config', bos_token: '<s>' };
    const both = await load({
      'tokenizer_config.json': config,
      'chat_template.jinja': 'file {{ messages[0].content }}',
    });
    expect(both.hasChatTemplate).toBe(true);
    expect(both.chat(messages)).toBe('file hi');
    expect((await load({ 'tokenizer_config.json': config })).chat(messages)).toBe('<s>config');
    const json = await load({
      'tokenizer_config.json': {},
      'chat_template.json': { chat_template: 'json' },
    });
    expect(json.chat(messages)).toBe('json');
  });

  test('chooses among several', async () => {
    const list = [
      { name: 'default', template: 'plain{% if add_generation_prompt %}>{% endif %}' },
      { name: 'tool_use', template: 'tools {{ tools | length }}' },
    ];
    const tokenizer = await load({ 'tokenizer_config.json': { chat_template: list } });
    expect(tokenizer.chat(messages)).toBe('plain>');
    expect(tokenizer.chat(messages, { addGenerationPrompt: false })).toBe('plain');
    expect(tokenizer.chat(messages, { tools: [tool, tool] })).toBe('tools 2');
    expect(tokenizer.chat(messages, { tools: [] })).toBe('plain>');
    const error = await failure(() => tokenizer.chat(messages, { template: 'rag' }));
    expect(error.message).toContain('default, tool_use');
  });

  test('says what is wrong', async () => {
    const none = await load({});
    expect(none.hasChatTemplate).toBe(false);
    await expectFailure(
      () => none.chat(messages),
      'ERR_ACCEL_TOKENIZER',
      'without a chat template',
    );
    expect(none.chat(messages, { template: { jinja: 'own' } })).toBe('own');
    const broken = await load({ 'chat_template.jinja': '{% if %}' });
    await expectFailure(() => broken.chat(messages), 'ERR_ACCEL_TOKENIZER', 'not valid Jinja');
    await expectFailure(
      () => load({ 'tokenizer_config.json': { chat_template: 7 } }),
      'ERR_ACCEL_TOKENIZER',
      'chat_template',
    );
    await expectFailure(
      () => load({ 'tokenizer_config.json': '{' }),
      'ERR_ACCEL_TOKENIZER',
      'not valid JSON',
    );
  });
});
