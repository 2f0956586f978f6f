import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type ChatMessage, ChatTemplate } from '../../src/tokenizer/chat-template.js';
import { expectFailure, failure, missing, shared } from '../shared.js';
import { goldenTokenizer } from './goldens.js';

interface ChatGolden {
  special_tokens?: Record<string, string>;
  cases: {
    messages: ChatMessage[];
    tools?: unknown[];
    add_generation_prompt: boolean;
    kwargs?: Record<string, unknown>;
    rendered?: string;
    error?: string;
  }[];
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
    const dir = join(shared, 'golden/chat-templates');
    expect(existsSync(join(dir, `${name}.jinja`))).toBe(true);
    const source = readFileSync(join(dir, `${name}.jinja`), 'utf8');
    const golden = JSON.parse(readFileSync(join(dir, `${name}.json`), 'utf8')) as ChatGolden;
    const template = new ChatTemplate({ default: source }, golden.special_tokens ?? {});
    for (const {
      messages,
      tools,
      add_generation_prompt,
      kwargs,
      rendered,
      error,
    } of golden.cases) {
      const render = (): string =>
        template.render(messages, {
          addGenerationPrompt: add_generation_prompt,
          ...(tools && { tools }),
          ...(kwargs && { variables: kwargs }),
        });
      if (error === undefined) expect(render()).toBe(rendered);
      else await expectFailure(render, 'ERR_ACCEL_TOKENIZER', error);
    }
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
    expect(tokenizer.chat(messages, { tools: [{}, {}] })).toBe('tools 2');
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
