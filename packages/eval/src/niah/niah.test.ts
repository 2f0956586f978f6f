import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadTokenizer, type Tokenizer } from '@accel/core';
import { needlePath } from '@accel/needle';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openBenchmark } from '../benchmark/open.js';
import type { Benchmark, EvalTask, PromptMeter, QuestionSample } from '../benchmark/types.js';
import { niahConfig } from '../config/defaults.js';
import { parseBenchmarkConfig } from '../config/parse.js';
import { TokenMeter } from '../prompt/meter.js';
import { wordTokenizer } from '../testing/fake-model.js';
import { insertNeedle } from './insert.js';
import { wordOverlap } from './word-overlap.js';

const NEEDLE = niahConfig().needle;

let folder: string;
let essay: string;
let bpe: Tokenizer;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'accel-niah-'));
  essay = join(folder, 'essay.txt');
  const sentences = Array.from(
    { length: 400 },
    (_, i) => `Sentence ${i} tells of “the sea”, of Queequeg’s café and of Mr. ${i % 7}.`,
  );
  await writeFile(essay, sentences.join('\n'));
  bpe = await loadTokenizer(needlePath);
});

afterAll(() => rm(folder, { recursive: true, force: true }));

function raw(tokenizer: Tokenizer): TokenMeter {
  return new TokenMeter(tokenizer, (text) => text);
}

function take(
  benchmark: Benchmark,
  task: EvalTask,
  meter: PromptMeter,
  count: number,
): QuestionSample[] {
  const samples: QuestionSample[] = [];
  const steps = benchmark.samples(task, meter);
  while (samples.length < count) {
    const { value, done } = steps.next();
    if (done === true) break;
    if (value?.kind === 'question') samples.push(value);
  }
  return samples;
}

function only(benchmark: Benchmark): EvalTask {
  const [task] = benchmark.tasks;
  if (task === undefined) throw new Error('There should be a task.');
  return task;
}

describe('NIAH', () => {
  it("asks as the seed toolkit does, with Kamradt's needle", async () => {
    const config = niahConfig({ lengths: [1000, 2000], depths: [0, 50, 100], essayPath: essay });
    const benchmark = await openBenchmark(config);
    expect(benchmark.tasks.map(({ id, name, length }) => [id, name, length])).toEqual([
      ['niah_1000', 'niah', 1000],
      ['niah_2000', 'niah', 2000],
    ]);
    expect(only(benchmark)).toMatchObject({ maxNewTokens: 50, metric: { name: 'word_overlap' } });
    const [start, middle, end] = take(benchmark, only(benchmark), raw(bpe), 3);
    expect(start?.context).toMatch(
      /^<\|im_start\|> This is a very long story book: <book> \nThe best thing to do in San Francisco is eat a sandwich/,
    );
    expect(middle?.context).toMatch(/ of Mr\.\nThe best thing|[0-9]\.\nThe best thing/);
    expect(end?.context.endsWith(`${NEEDLE} </book>.\n`)).toBe(true);
    expect(middle?.question).toBe(
      ' Based on the content of the book, Question: What is the best thing to do in San Francisco?\nAnswer:',
    );
    expect([start, middle, end].map((sample) => sample?.facts?.['depth'])).toEqual([0, 50, 100]);
    expect(middle?.facts?.['position']).toBeLessThanOrEqual(50);
    expect(middle?.facts?.['position']).toBeGreaterThan(45);
  });

  it('scores by words, as the seed toolkit does', () => {
    const answer = 'eat a sandwich and sit in Dolores Park on a sunny day.';
    expect(wordOverlap(` ${answer.toUpperCase()} `, answer)).toBe(100);
    // 11 distinct words; "day" without its period is another one.
    expect(wordOverlap('Eat a sandwich on a sunny day', answer)).toBeCloseTo((5 / 11) * 100, 10);
    expect(wordOverlap('', answer)).toBe(0);
    expect(wordOverlap('anything', ' ')).toBe(0);
  });

  it('hides magic numbers for models that know no other needles', async () => {
    const { config } = parseBenchmarkConfig('benchmark_name: NIAH\nneedle: magic-number\n');
    const benchmark = await openBenchmark({
      ...niahConfig({ ...config, lengths: [1024], depths: [0, 30], essayPath: essay } as never),
    });
    const task = only(benchmark);
    const samples = take(benchmark, task, raw(bpe), 4);
    for (const { context, question, answerPrefix, firstQuestion, references } of samples) {
      const [, key, number] =
        /One of the special magic numbers for (\S+) is: (\d{7})\./.exec(context) ?? [];
      expect(references).toEqual([number]);
      const asked = `What is the special magic number for ${key} mentioned in the provided text?`;
      expect(question).toBe(`\n${asked}`);
      expect(answerPrefix).toContain(`for ${key} mentioned`);
      expect(context).not.toContain(question);
      expect(firstQuestion).toMatch(/^\nWhat is the special magic number for \S+ mentioned/);
      expect(firstQuestion).not.toBe(question);
    }
    expect(new Set(samples.map(({ references }) => references[0])).size).toBe(4);
    const [first] = samples;
    if (first === undefined) throw new Error('There should be a sample.');
    expect(benchmark.score(task, `it is ${first.references[0]}`, first)).toBe(100);
    expect(benchmark.score(task, 'it is 1', first)).toBe(0);
  });

  it('fits any length and depth, with any tokenizer and template; samples do not depend on how many are taken', async () => {
    const long = (text: string): string => `<|user|>${'be kind. '.repeat(60)}${text}<|assistant|>`;
    const meters = [raw(bpe), raw(wordTokenizer()), new TokenMeter(bpe, long)];
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 600, max: 3000 }),
        fc.uniqueArray(fc.double({ min: 0, max: 100, noNaN: true }), {
          minLength: 1,
          maxLength: 3,
        }),
        fc.constantFrom('magic-number', NEEDLE, 'A needle without an end'),
        fc.integer({ min: 0, max: 250 }),
        fc.nat(2),
        async (length, depths, needle, buffer, which) => {
          const meter = meters[which] ?? raw(bpe);
          const benchmark = await openBenchmark(
            niahConfig({ lengths: [length], depths, needle, buffer, essayPath: essay }),
          );
          const task = only(benchmark);
          const samples = take(benchmark, task, meter, 5);
          for (const [i, sample] of samples.entries()) {
            const { context, question, answerPrefix, facts } = sample;
            const prompt = meter.wrap(context + question) + answerPrefix;
            expect(meter.countTokens(prompt) + task.maxNewTokens).toBeLessThanOrEqual(length);
            expect(facts?.['depth']).toBe(depths[i % depths.length]);
            if (needle !== 'magic-number') expect(context).toContain(needle);
            expect(context).not.toContain('\uFFFD');
          }
          expect(take(benchmark, task, meter, 2)).toEqual(samples.slice(0, 2));
        },
      ),
      { numRuns: 25 },
    );
  });

  it('says what does not fit', async () => {
    const benchmark = await openBenchmark(niahConfig({ lengths: [100], essayPath: essay }));
    expect(() => take(benchmark, only(benchmark), raw(bpe), 1)).toThrow(
      expect.objectContaining({
        code: 'ERR_ACCEL_ARGUMENT',
        message: expect.stringContaining('niah_100 does not fit') as string,
      }),
    );
  });

  it('has another fingerprint for another essay or needle', async () => {
    const of = async (...given: Parameters<typeof niahConfig>): Promise<string> =>
      (await openBenchmark(niahConfig(...given))).fingerprint;
    const prints = await Promise.all([
      of({ essayPath: essay }),
      of(),
      of({ essayPath: essay, needle: 'x' }),
      of({ essayPath: essay, lengths: [5] }),
    ]);
    expect(new Set(prints.slice(0, 3)).size).toBe(3);
    expect(prints[3]).toBe(prints[0]);
  });
});

describe('insertNeedle', () => {
  it('stands behind a sentence, and loses nothing of the text', () => {
    const text = Array.from({ length: 50 }, (_, i) => `Word${i} goes on and on.`).join(' ');
    const ids = bpe.encode(text, { addSpecial: false });
    fc.assert(
      fc.property(fc.double({ min: 0, max: 100, noNaN: true }), (depth) => {
        const { text: filled, position } = insertNeedle(ids, 'NEEDLE.', depth, raw(bpe));
        expect(filled.replace(/ ?NEEDLE\. ?/, ' ').trim()).toBe(text);
        expect(position).toBeLessThanOrEqual(depth);
        // A sentence is 2 % of this text.
        expect(position).toBeGreaterThan(depth - 3);
      }),
      { numRuns: 50 },
    );
  });
});
