import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { accel } from './fake-io.js';

let folder: string;
let template: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'accel-cli-chat-'));
  template = join(folder, 'chat.jinja');
  await writeFile(
    template,
    '<|begin_of_text|>{% for m in messages %}{{ m.role }}: {{ m.content }}<|pad|>\n{% endfor %}' +
      '{% if add_generation_prompt %}assistant:{% endif %}\n',
  );
});
afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

interface Shown {
  promptTokens: number;
  prompt: { text: string; ids: number[]; stopIds: number[] };
  tokens: number[];
}

describe('accel generate --chat', () => {
  const chat = (...more: string[]): string[] => [
    ...['generate', 'Hello', '--max-tokens', '3', '--chat', '--chat-template', template, ...more],
  ];

  it('feeds system message and prompt as the template writes them, and shows what it fed', async () => {
    const { exitCode, stdout } = await accel(
      chat('--system', 'Be brief.', '--show-prompt', '--json'),
    );
    expect(exitCode).toBe(0);
    const { promptTokens, prompt, tokens } = JSON.parse(stdout) as Shown;
    expect(prompt.text).toBe(
      '<|begin_of_text|>system: Be brief.<|pad|>\nuser: Hello<|pad|>\nassistant:',
    );
    expect(prompt.ids).toHaveLength(promptTokens);
    expect(prompt.ids.filter((id) => id === 0)).toHaveLength(1);
    // The end of text, and what the template ends messages with.
    expect(prompt.stopIds).toEqual([1, 2]);
    expect(tokens).toHaveLength(3);
  });

  it('shows it on standard error while the text streams', async () => {
    const { stdout, stderr } = await accel(chat('--show_prompt'));
    expect(stderr).toContain('"<|begin_of_text|>user: Hello<|pad|>\\nassistant:"');
    expect(stderr).toMatch(/^prompt, (\d+) tokens, as JSON:$/m);
    expect(stderr).toMatch(/^ids:\n {2}0 [\d ]+$/m);
    expect(stderr).toContain('stop ids:\n  1 "<|end_of_text|>", 2 "<|pad|>"\n');
    expect(stdout).not.toContain('<|begin_of_text|>');
    expect((await accel(chat())).stderr).toBe('');
  });

  it('says what is missing or does not fit', async () => {
    const none = await accel(['generate', 'Hello', '--chat']);
    expect(none.exitCode).not.toBe(0);
    expect(none.stderr).toMatch(/has no chat template.*--chat-template/);
    const system = await accel(['generate', 'Hello', '--system', 'x']);
    expect(system.stderr).toContain('--system is about chats; add --chat');
    const absent = await accel([
      'generate',
      'Hello',
      '--chat',
      '--chat-template',
      join(folder, 'absent.jinja'),
    ]);
    expect(absent.stderr).toMatch(/Cannot read the chat template file .*absent\.jinja/);
  });
});

describe('accel generate --show-prompt', () => {
  it('shows one begin of text, also when the prompt brings its own', async () => {
    for (const text of ['Hello', '<|begin_of_text|>Hello']) {
      const { stdout } = await accel([
        'generate',
        text,
        '--max-tokens',
        '1',
        '--show-prompt',
        '--json',
      ]);
      const { prompt } = JSON.parse(stdout) as Shown;
      expect(prompt.text).toBe('<|begin_of_text|>Hello');
      expect(prompt.ids.filter((id) => id === 0)).toHaveLength(1);
      expect(prompt.stopIds).toEqual([1]);
    }
  });
});
