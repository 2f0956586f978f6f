import { mkdtemp, copyFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadTokenizer, type Tokenizer } from '@accel/core';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { EvalTask, QuestionSample } from '../benchmark/types.js';
import type { Prompt } from '../execute/types.js';
import { wordTokenizer } from '../testing/fake-model.js';
import { sharedFile } from '../testing/shared.js';
import { metersOf, PromptFormat, type PromptOptions } from './format.js';

const TASK: EvalTask = {
  id: 'task_4096',
  name: 'task',
  length: 4096,
  maxNewTokens: 16,
  metric: { name: 'm' },
};
const OPTIONS: PromptOptions = { template: 'auto', noTemplateTasks: [] };

function sampleOf(change: Partial<QuestionSample> = {}): QuestionSample {
  return {
    kind: 'question',
    index: 0,
    context: 'Remember this.\nThe number for wide-open is: 1234567.',
    question: '\nWhat is the number for wide-open?',
    answerPrefix: ' The number for wide-open is',
    firstQuestion: '\nWhat is the number for blue-eyed?',
    references: ['1234567'],
    ...change,
  };
}

function formatFor(tokenizer: Tokenizer, options = OPTIONS, contextLength = 8192): PromptFormat {
  const model = { tokenizer, spec: { name: 'm', contextLength, eosTokenIds: [2] } };
  return new PromptFormat(model, options, TASK, metersOf(model));
}

const idsOf = (prompt: Prompt): number[] => prompt.turns.flatMap(({ ids }) => [...ids]);
const textOf = (prompt: Prompt): string => prompt.turns.map(({ text }) => text).join('');

describe('a raw prompt', () => {
  const tokenizer = wordTokenizer();
  const format = formatFor(tokenizer);

  it('begins with the tokenizer’s special tokens and ends with the answer prefix', () => {
    const { prompt } = format.make(sampleOf(), 'query-aware');
    expect(textOf(prompt)).toBe(
      'Remember this.\nThe number for wide-open is: 1234567.\nWhat is the number for wide-open? The number for wide-open is',
    );
    expect(tokenizer.decode(idsOf(prompt))).toBe(`<s>${textOf(prompt)}`);
    expect(prompt.turns).toMatchObject([{ answer: 16 }]);
    expect(prompt.stopIds).toEqual([2]);
    expect(prompt.turns[0]?.user).toBeUndefined();
  });

  it('is cut where the question begins when that comes later', () => {
    const aware = format.make(sampleOf(), 'query-aware').prompt;
    const { prompt } = format.make(sampleOf(), 'query-agnostic');
    expect(prompt.turns.map(({ answer }) => answer)).toEqual([0, 16]);
    expect(idsOf(prompt)).toEqual(idsOf(aware));
    expect(prompt.turns[0]?.text).toBe(sampleOf().context);
  });

  it('asks something else first in a second turn', () => {
    const { prompt } = format.make(sampleOf(), 'second-turn');
    expect(prompt.turns.map(({ text, answer }) => [text, answer])).toEqual([
      [`${sampleOf().context}\nWhat is the number for blue-eyed?`, 16],
      ['\nWhat is the number for wide-open? The number for wide-open is', 16],
    ]);
  });

  it('takes the target of a text', () => {
    const ids = tokenizer.encode('a b c d', { addSpecial: false });
    const sample = {
      kind: 'text',
      index: 0,
      context: ids.slice(0, 3),
      target: ids.slice(3),
    } as const;
    const { prompt } = format.make(sample, 'query-aware');
    expect(tokenizer.decode(idsOf(prompt))).toBe('<s>a b c');
    expect(prompt.target).toEqual(ids.slice(3));
  });
});

describe('a prompt that is too long', () => {
  const words = (count: number): string =>
    Array.from({ length: count }, (_, i) => `w${i}`).join(' ');

  it('loses its middle, says so, and keeps the question apart', () => {
    const format = formatFor(wordTokenizer(), { ...OPTIONS, maxLength: 40 });
    const long = sampleOf({ context: words(100) });
    for (const mode of ['query-aware', 'query-agnostic', 'second-turn'] as const) {
      const { prompt, cutFrom } = format.make(long, mode);
      expect(cutFrom).toBe(100 + 6 + 5);
      expect(textOf(prompt)).toMatch(/^w0 w1 .* w99\nWhat/);
    }
    const { prompt } = format.make(long, 'query-aware');
    expect(idsOf(prompt).length).toBeLessThanOrEqual(40 + 1);
    expect(idsOf(prompt).length).toBeGreaterThanOrEqual(40);
    expect(format.make(sampleOf(), 'query-aware').cutFrom).toBeUndefined();
  });

  it('fits the model’s window beside its answer', () => {
    const format = formatFor(wordTokenizer(), OPTIONS, 64);
    const { prompt } = format.make(sampleOf({ context: words(500) }), 'query-aware');
    expect(idsOf(prompt).length + TASK.maxNewTokens).toBeLessThanOrEqual(64 + 1);
  });
});

const NAMES = ['llama-3.1-instruct', 'qwen2.5-instruct', 'mistral-7b-instruct-v0.2'];
const TOKENIZERS = ['bytelevel-llama3', 'bytelevel-qwen2', 'spm-legacy'];
const missing = sharedFile('golden/chat-templates').missing;

describe.skipIf(missing !== undefined).each(NAMES.map((name, i) => [name, TOKENIZERS[i] ?? '']))(
  `the template of %s${missing === undefined ? '' : ` [skipped: ${missing}]`}`,
  (name, vocabulary) => {
    let folder: string;
    let format: PromptFormat;
    beforeAll(async () => {
      folder = await mkdtemp(join(tmpdir(), 'accel-format-'));
      const shared = (path: string): string => sharedFile(`golden/${path}`).path;
      await copyFile(
        shared(`tokenizers/small/${vocabulary}.tokenizer.json`),
        join(folder, 'tokenizer.json'),
      );
      await copyFile(shared(`chat-templates/${name}.jinja`), join(folder, 'chat_template.jinja'));
      const specials = { bos_token: '<s>', eos_token: '</s>' };
      await writeFile(join(folder, 'tokenizer_config.json'), JSON.stringify(specials));
      format = formatFor(await loadTokenizer(folder));
    });
    afterAll(() => rm(folder, { recursive: true }));

    it('puts the answer prefix after the assistant’s header, raw where it is told to', async () => {
      const { prompt } = format.make(sampleOf(), 'query-aware');
      expect(textOf(prompt).endsWith(sampleOf().answerPrefix)).toBe(true);
      expect(textOf(prompt)).toBe(
        format.meter.wrap(sampleOf().context + sampleOf().question) + sampleOf().answerPrefix,
      );
      const raw = formatFor(await loadTokenizer(folder), {
        template: 'auto',
        noTemplateTasks: ['TASK'],
      });
      expect(textOf(raw.make(sampleOf(), 'query-aware').prompt)).toMatch(/^Remember this/);
    });

    it('is the same ids however it is cut, and the context has nothing of the question', () => {
      const text = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 40 });
      fc.assert(
        fc.property(text, fc.stringMatching(/^\n[A-Z][a-z ]{3,30}\?$/), (context, question) => {
          const sample = sampleOf({ context, question });
          const aware = format.make(sample, 'query-aware').prompt;
          const { prompt } = format.make(sample, 'query-agnostic');
          expect(idsOf(prompt)).toEqual(idsOf(aware));
          expect(textOf(prompt)).toBe(textOf(aware));
          expect(prompt.turns[0]?.text).not.toContain(question.trim());
        }),
        { numRuns: 50 },
      );
    });

    it('is a conversation in a second turn', () => {
      const { turns } = format.make(sampleOf(), 'second-turn').prompt;
      expect(turns[0]?.text).toBe(format.meter.wrap(sampleOf().context + sampleOf().firstQuestion));
      expect(turns[1]?.text).toContain('What is the number for wide-open?');
      expect(turns[1]?.text.endsWith(sampleOf().answerPrefix)).toBe(true);
      expect(turns[1]?.text).not.toContain('Remember this');
    });
  },
);
