import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { chatPrompt } from '../../src/chat/prompt.js';
import { endOfTurnIds } from '../../src/chat/stop-ids.js';
import type { Tokenizer } from '../../src/tokenizer/tokenizer.js';
import { missing, shared } from '../shared.js';
import { goldenTokenizer } from '../tokenizer/goldens.js';

async function withTemplate(tokenizer: string, template: string): Promise<Tokenizer> {
  return goldenTokenizer(tokenizer, {
    'chat_template.jinja': readFileSync(
      join(shared, 'golden/chat-templates', `${template}.jinja`),
      'utf8',
    ),
    'tokenizer_config.json': JSON.stringify(special[template] ?? {}),
  });
}

const special: Record<string, object> = {
  'llama-3.1-instruct': { bos_token: '<|begin_of_text|>', eos_token: '<|eot_id|>' },
  'mistral-7b-instruct-v0.2': { bos_token: '<s>', eos_token: '</s>' },
};

describe.skipIf(missing)('tokens that end an answer', () => {
  test.each([
    ['llama-3.1', 'llama-3.1-instruct', ['<|eot_id|>']],
    ['qwen3', 'qwen3', ['<|im_end|>']],
    ['bytelevel-qwen2', 'qwen2.5-instruct', ['<|im_end|>']],
    ['mistral-v1', 'mistral-7b-instruct-v0.2', ['</s>']],
    ['bytelevel-glm4', 'glm-4-9b-chat', ['<|user|>', '<|observation|>']],
  ])('%s: %s', async (name, template, expected) => {
    const tokenizer = await withTemplate(name, template);
    const ids = endOfTurnIds(tokenizer, {});
    expect(ids.map((id) => tokenizer.decode([id]))).toEqual(expected);
  });

  test('what comes after an answer counts only if it is a special token', async () => {
    const tokenizer = await goldenTokenizer('needle-7m');
    const end = (jinja: string): number[] => endOfTurnIds(tokenizer, { template: { jinja } });
    const each = (body: string): string => `{% for m in messages %}${body}{% endfor %}`;
    expect(end(each('{{ m.content }}\n'))).toEqual([]);
    expect(end(each('{{ m.content }} \n<|pad|>'))).toEqual([2]);
    expect(end(each('<|pad|>{{ m.content }}'))).toEqual([2]);
    expect(end(each('{{ m.content }} and <|pad|>'))).toEqual([]);
    // It shows no answers, or refuses them.
    expect(end('{{ messages[0].content }}<|pad|>')).toEqual([]);
    expect(end("{{ raise_exception('no') if messages | length > 1 }}")).toEqual([]);
  });
});

describe.skipIf(missing)('a prompt', () => {
  test('is what is fed: the text, its ids without a second begin of text, and all stop ids', async () => {
    const tokenizer = await withTemplate('llama-3.1', 'llama-3.1-instruct');
    const messages = [{ role: 'user', content: 'Hi' }];
    const { text, ids, stopIds } = chatPrompt(tokenizer, { eosTokenIds: [128_001] }, messages);
    expect(text).toMatch(/^<\|begin_of_text\|>.*<\|end_header_id\|>\n\n$/s);
    expect([...ids].filter((id) => id === 128_000)).toHaveLength(1);
    expect(tokenizer.decode(ids)).toBe(text);
    // The config's first, each once.
    expect(stopIds).toEqual([128_001, 128_009]);
    const known = chatPrompt(tokenizer, { eosTokenIds: [128_009, 128_001] }, messages);
    expect(known.stopIds).toEqual([128_009, 128_001]);
  });

  test('a template that writes no begin of text gets none', async () => {
    const tokenizer = await goldenTokenizer('needle-7m');
    const template = { jinja: '{{ messages[0].content }}' };
    const { ids } = chatPrompt(tokenizer, { eosTokenIds: [] }, [{ role: 'user', content: 'Hi' }], {
      template,
    });
    expect([...ids]).toEqual([...tokenizer.encode('Hi', { addSpecial: false })]);
  });
});
