import { mkdir, mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { openRuler } from '../benchmark/ruler.js';
import { rulerConfig } from '../config/defaults.js';
import { generateSamples } from './generate.js';
import { fill } from './prompts.js';
import { loadSources } from './sources.js';
import { maxNewTokens, RULER_TASKS, rulerTask } from './tasks.js';
import type { GenerateContext, RulerSample, RulerSources } from './types.js';
import { KeyWords } from './words.js';

/** Too little for any task. */
const LITTLE = 150;

const countTokens = (text: string): number =>
  text.split(/\s+/).filter((word) => word !== '').length;

const numbers = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

/** Eight articles of five paragraphs, the first of which asks two questions. */
const squad = {
  data: numbers(8).map((article) => ({
    paragraphs: numbers(5).map((i) => ({
      context: `Ship ${article} had ${i} boats. ${'They went out to sea again. '.repeat(5)}`,
      qas: [
        {
          question: `Which ship had ${i} boats?`,
          is_impossible: i > 1,
          answers: [{ text: `Ship ${article}` }],
        },
      ],
    })),
  })),
};

/** Six questions about ten documents each, which they share. */
const hotpot = numbers(6).map((row) => ({
  question: `Who sailed on day ${row}?`,
  answer: `captain ${row}`,
  context: numbers(10).map((i) => [
    `Log ${(row + i) % 12}`,
    ['It was windy. ', `captain ${(row + i) % 12} sailed. `],
  ]),
}));

let folder: string;
let sources: RulerSources;
let paths: { squadPath: string; hotpotPath: string };
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'accel-eval-'));
  paths = { squadPath: join(folder, 'squad.json'), hotpotPath: join(folder, 'hotpot.json') };
  await writeFile(paths.squadPath, JSON.stringify(squad));
  await writeFile(paths.hotpotPath, JSON.stringify(hotpot));
  sources = await loadSources({ ...paths, tasks: ['qa_1', 'qa_2'] });
});

function take(name: string, count: number, context: Partial<GenerateContext> = {}): RulerSample[] {
  const task = rulerTask(name);
  const samples = generateSamples(task, {
    length: 2048,
    maxNewTokens: task.maxNewTokens,
    seed: 42,
    sources,
    countTokens,
    ...context,
  });
  return Array.from({ length: count }, () => samples.next().value);
}

describe('KeyWords', () => {
  it('is the sorted set of all pairs', () => {
    const word = fc.stringMatching(/^[ab-]{1,3}$/);
    const list = fc.array(word, { minLength: 1, maxLength: 8 });
    fc.assert(
      fc.property(list, list, (adjectives, nouns) => {
        const words = new KeyWords(adjectives, nouns);
        const all = [...new Set(adjectives.flatMap((a) => nouns.map((n) => `${a}-${n}`)))].sort();
        expect(Array.from({ length: words.length }, (_, i) => words.at(i))).toEqual(all);
      }),
    );
  });

  it('refuses an empty list and an index beyond the end', () => {
    expect(() => new KeyWords([], ['a'])).toThrow(/empty/);
    expect(() => new KeyWords(['a'], ['b']).at(1)).toThrow(/no key word 1/);
  });
});

describe('default sources', () => {
  it('have enough prose for 128K tokens and enough keys', () => {
    expect(sources.essay.words.length).toBeGreaterThan(200_000);
    expect(sources.words.length).toBeGreaterThan(2_000_000);
    expect(sources.commonWords.words.length).toBeGreaterThan(15_000);
    expect(sources.commonWords.words.every((word) => /^[a-z]{4,}$/i.test(word))).toBe(true);
  });

  it.each(RULER_TASKS.map((task) => task.name))(
    'make %s questions whose text holds every answer',
    (name) => {
      for (const sample of take(name, 3)) {
        expect(sample.measuredLength).toBeLessThanOrEqual(2048);
        expect(sample.measuredLength).toBeGreaterThan(1024);
        expect(sample.references.length).toBeGreaterThan(0);
        for (const reference of sample.references) expect(sample.context).toContain(reference);
        expect(sample.input + sample.answerPrefix).not.toMatch(/\{\w+\}/);
      }
    },
  );

  it('repeat a short essay until it is long enough', () => {
    const words = ['One', 'day.', 'Two', 'days.'];
    const short: RulerSources = { ...sources, essay: { ...sources.essay, words } };
    const [sample] = take('niah_single_2', 1, { sources: short });
    expect(sample?.measuredLength).toBeGreaterThan(2000);
    expect(sample?.input).toContain('days. One day. Two');
  });
});

describe('generateSamples', () => {
  it('does not depend on how many samples are taken', () => {
    expect(take('niah_multiquery', 2)).toEqual(take('niah_multiquery', 4).slice(0, 2));
    for (const name of ['vt', 'cwe', 'fwe', 'qa_1']) {
      expect(take(name, 1)).toEqual(take(name, 3).slice(0, 1));
    }
  });

  it('depends on the seed', () => {
    expect(take('vt', 1, { seed: 1 })).not.toEqual(take('vt', 1));
  });

  it('counts the chat template and leaves room for it', () => {
    const wrap = (text: string): string => `${'header '.repeat(200)}${text}`;
    for (const name of ['niah_single_1', 'vt', 'cwe', 'fwe']) {
      const [plain] = take(name, 1);
      const [wrapped] = take(name, 1, { wrap });
      expect(wrapped?.measuredLength).toBeLessThanOrEqual(2048);
      expect(wrapped?.input).not.toContain('header');
      expect(countTokens(plain?.input ?? '')).toBeGreaterThan(
        countTokens(wrapped?.input ?? '') + 150,
      );
    }
  });

  it.each(['vt', 'cwe'])('leaves out the worked example of %s on request', (name) => {
    const questions = (sample: RulerSample | undefined): number =>
      (sample?.input ?? '').split('Question:').length - 1;
    const [shown] = take(name, 1);
    const [hidden] = take(name, 1, { workedExample: false });
    expect([questions(shown), questions(hidden)]).toEqual([2, 1]);
    expect(hidden?.measuredLength).toBeGreaterThan(1900);
  });

  const anyTask = fc.constantFrom(...RULER_TASKS.map((task) => task.name));

  it('fits any tokenizer, template and length', () => {
    const cases = fc.record({
      name: anyTask,
      length: fc.integer({ min: 2048, max: 6000 }),
      charactersPerToken: fc.double({ min: 3, max: 7, noNaN: true }),
      header: fc.integer({ min: 0, max: 300 }),
      seed: fc.nat(),
    });
    fc.assert(
      fc.property(cases, ({ name, length, charactersPerToken, header, seed }) => {
        const count = (text: string): number => Math.ceil(text.length / charactersPerToken);
        const wrap = (text: string): string => 'h'.repeat(header) + text;
        for (const sample of take(name, 2, { length, seed, wrap, countTokens: count })) {
          const { input, answerPrefix, references, measuredLength } = sample;
          expect(measuredLength).toBe(
            count(wrap(input) + answerPrefix) + rulerTask(name).maxNewTokens,
          );
          expect(measuredLength).toBeLessThanOrEqual(length);
          for (const reference of references) expect(sample.context).toContain(reference);
        }
      }),
      { numRuns: 60 },
    );
  });

  it('measures the prompt that it hands out last, so that its ids can be kept', () => {
    fc.assert(
      fc.property(anyTask, (name) => {
        let last = '';
        const count = (text: string): number => countTokens((last = text));
        const [sample] = take(name, 1, { countTokens: count });
        expect(last).toBe(`${sample?.input}${sample?.answerPrefix}`);
      }),
      { numRuns: 13 },
    );
  });

  it.each(['cwe', 'fwe', 'qa_1', 'qa_2'])('fills 128K tokens with %s', (name) => {
    const count = (text: string): number => Math.ceil(text.length / 4);
    const [sample] = take(name, 1, { length: 131_072, countTokens: count });
    expect(sample?.measuredLength).toBeLessThanOrEqual(131_072);
    expect(sample?.measuredLength).toBeGreaterThan(125_000);
  });

  it('ends with the data', () => {
    expect(take('qa_2', 6).at(-1)?.references).toEqual(['captain 5']);
    expect(() => take('qa_2', 7)).toThrow(/qa_2 end after 6 samples/);
  });

  it('leaves out questions whose own documents are too long, but not the first', async () => {
    const [first, second, third] = hotpot;
    const long = { ...second, context: [['Log', [`captain 1 ${'sailed '.repeat(2000)}`]]] };
    const data = async (rows: unknown[]): Promise<RulerSources> => {
      const hotpotPath = join(folder, 'long.json');
      await writeFile(hotpotPath, JSON.stringify(rows));
      return loadSources({ tasks: ['qa_2'], hotpotPath });
    };
    const samples = take('qa_2', 2, { sources: await data([first, long, third]) });
    expect(samples.map(({ index, row }) => [index, row])).toEqual([
      [0, 0],
      [1, 2],
    ]);
    const bad = await data([long, first]);
    expect(() => take('qa_2', 1, { sources: bad })).toThrow(/qa_2_2048\/0 does not fit/);
  });

  it('takes more words where a list needs more than there are, and says when that does not suffice', () => {
    const few = { words: ['a', 'b'], more: sources.words };
    const [sample] = take('cwe', 1, { sources: { ...sources, commonWords: few } });
    expect(sample?.references.every((word) => /^\S+-\S+$/.test(word))).toBe(true);
    const none = { words: ['a', 'b'], more: ['c'] };
    expect(() => take('cwe', 1, { sources: { ...sources, commonWords: none } })).toThrow(
      /needs 20 different words to fill 2048 tokens and the list has 1.*english_words_path/,
    );
  });

  it.each(['niah_single_2', 'niah_multikey_3', 'vt', 'cwe', 'fwe', 'qa_1', 'qa_2'])(
    'ends with an error when %s cannot fit',
    (name) => {
      expect(() => take(name, 1, { length: LITTLE })).toThrow(
        expect.objectContaining({
          code: 'ERR_ACCEL_ARGUMENT',
          message: expect.stringMatching(
            /does not fit: its smallest prompt and answer take \d+ tokens and the length is 150/,
          ) as string,
        }),
      );
    },
  );

  it('shows a field that nothing fills', () => {
    expect(fill('{a} {b}', { a: '$&' })).toBe('$& {b}');
  });
});

describe('the first question', () => {
  const keysOf = (text = ''): string[] =>
    [...text.matchAll(/for (\S+-\S+) is: /g)].map((match) => match[1] ?? '');

  it('asks for another key of the text where there is one', () => {
    for (const name of ['niah_multikey_1', 'niah_multikey_2']) {
      for (const { context, question, firstQuestion } of take(name, 3)) {
        const asked = keysOf(context).filter((key) => firstQuestion.includes(key));
        expect(asked).toHaveLength(1);
        expect(question).not.toContain(asked[0]);
      }
    }
  });

  it('asks for what is not in the text elsewhere', () => {
    for (const name of ['niah_single_1', 'niah_multivalue', 'niah_multiquery']) {
      const [sample] = take(name, 1);
      expect(keysOf(sample?.context).some((key) => sample?.firstQuestion.includes(key))).toBe(
        false,
      );
      expect(sample?.firstQuestion.split(' ')).toHaveLength(
        sample?.question.split(' ').length ?? 0,
      );
    }
    const [vt] = take('vt', 1);
    expect(vt?.context).not.toContain(/value (\d+)/.exec(vt?.firstQuestion ?? '')?.[1]);
  });

  it('asks for the least common words, and the next question of the data', () => {
    expect(take('cwe', 1)[0]?.firstQuestion).toContain('10 least common words');
    expect(take('fwe', 1)[0]?.firstQuestion).toContain('three least frequently');
    const questions = take('qa_2', 6);
    expect(questions.map((sample) => sample.firstQuestion)).toEqual(
      [...questions.slice(1), questions[0]].map((sample) => sample?.question),
    );
  });
});

describe('tasks', () => {
  it('give vt 80 new tokens under the loom preset', () => {
    expect(maxNewTokens(rulerTask('vt'), 'ruler')).toBe(30);
    expect(maxNewTokens(rulerTask('vt'), 'loom')).toBe(80);
    expect(maxNewTokens(rulerTask('niah_single_1'), 'loom')).toBe(128);
  });
});

describe('openRuler', () => {
  const meter = {
    countTokens,
    encode: () => new Int32Array(),
    decode: () => '',
    wrap: (text: string) => text,
  };

  it('has a task for each length and name, length-major, with its metric and limit', async () => {
    const benchmark = await openRuler(
      rulerConfig({
        ...paths,
        tasks: ['vt', 'qa_1'],
        lengths: [1024, 2048],
        tokensToGenerate: 'loom',
      }),
    );
    expect(benchmark.tasks).toEqual([
      {
        id: 'vt_1024',
        name: 'vt',
        length: 1024,
        maxNewTokens: 80,
        metric: { name: 'string_match_all' },
      },
      expect.objectContaining({
        id: 'qa_1_1024',
        available: 16,
        metric: { name: 'string_match_part' },
      }),
      expect.objectContaining({ id: 'vt_2048' }),
      expect.objectContaining({ id: 'qa_1_2048', maxNewTokens: 32 }),
    ]);
  });

  it('gives the samples of the generator and scores by the metric of the task', async () => {
    const benchmark = await openRuler(
      rulerConfig({
        ...paths,
        tasks: ['niah_single_2', 'niah_multiquery', 'qa_1'],
        lengths: [2048],
      }),
    );
    const [single, multi, qa] = benchmark.tasks.map((task) => {
      const steps = benchmark.samples(task, meter);
      let step = steps.next();
      while (step.value === undefined) step = steps.next();
      const sample = step.value;
      if (sample.kind !== 'question') throw new Error('RULER asks questions.');
      return { task, sample };
    });
    if (!single || !multi || !qa) throw new Error('There are three tasks.');
    const [expected] = take('niah_single_2', 1);
    expect(single.sample).toEqual({
      kind: 'question',
      index: 0,
      context: expected?.context,
      question: expected?.question,
      answerPrefix: expected?.answerPrefix,
      firstQuestion: expected?.firstQuestion,
      references: expected?.references,
      facts: { measuredLength: expected?.measuredLength, depth: expect.any(Number) as number },
    });
    expect(multi.sample.facts).not.toHaveProperty('depth');
    expect(qa.sample.facts).toHaveProperty('row', 0);
    expect(benchmark.score(multi.task, multi.sample.references[2] ?? '', multi.sample)).toBe(25);
    expect(benchmark.score(qa.task, 'It was ship 0.', qa.sample)).toBe(100);
  });
});

describe('loadSources', () => {
  it('reads text and JSON essays and word folders', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'accel-eval-'));
    await writeFile(join(folder, 'verblist.txt'), 'sail\nship\n');
    await writeFile(join(folder, 'nounlist.txt'), 'whale\nship\n');
    await writeFile(join(folder, 'adjectivelist.txt'), 'white\n\n');
    await writeFile(join(folder, 'essay.json'), JSON.stringify({ text: 'Call me\nIshmael.' }));
    await writeFile(join(folder, 'essay.txt'), 'Call me  Ishmael.');
    const json = await loadSources({ wordsPath: folder, essayPath: join(folder, 'essay.json') });
    const text = await loadSources({ wordsPath: folder, essayPath: join(folder, 'essay.txt') });
    expect(json.essay.words).toEqual(['Call', 'me', 'Ishmael.']);
    expect(text.essay.words).toEqual(json.essay.words);
    expect([json.words.length, json.words.at(1)]).toEqual([2, 'white-whale']);
    expect(json.commonWords.words).toEqual(['sail', 'ship', 'whale', 'white']);
    expect(json.fingerprint).not.toBe(sources.fingerprint);
  });

  it('says what is wrong with a path', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'accel-eval-'));
    await writeFile(join(folder, 'bad.json'), '{"txt": ""}');
    await writeFile(join(folder, 'empty.txt'), '  \n');
    await expect(loadSources({ wordsPath: folder })).rejects.toThrow(
      /no file ending in adjectivelist.txt/,
    );
    await expect(loadSources({ wordsPath: join(folder, 'none') })).rejects.toMatchObject({
      code: 'ERR_ACCEL_FILE',
    });
    await expect(loadSources({ essayPath: join(folder, 'bad.json') })).rejects.toThrow(
      /no "text" field/,
    );
    await expect(loadSources({ essayPath: join(folder, 'empty.txt') })).rejects.toThrow(/is empty/);
    await expect(loadSources({ essayPath: join(folder, 'none.txt') })).rejects.toThrow(
      /Check the path/,
    );
  });

  it('reads English words from a text or from JSON', async () => {
    await writeFile(join(folder, 'words.json'), '{"0": "sea", "1": "oar"}');
    await writeFile(join(folder, 'words.txt'), 'sea\r\noar\n');
    await writeFile(join(folder, 'none.json'), '[]');
    for (const name of ['words.json', 'words.txt']) {
      const { commonWords } = await loadSources({ englishWordsPath: join(folder, name) });
      expect(commonWords.more).toEqual(['sea', 'oar']);
    }
    await expect(loadSources({ englishWordsPath: join(folder, 'none.json') })).rejects.toThrow(
      /has no words/,
    );
  });

  it('says how to get the data of qa tasks, and what is wrong with them', async () => {
    vi.stubEnv('ACCEL_DATA', folder);
    await expect(loadSources({ tasks: ['qa_1'] })).rejects.toMatchObject({
      code: 'ERR_ACCEL_FILE',
      message: expect.stringMatching(
        /qa_1 needs SQuAD 2.0.*`accel data pull squad`.*squad_path/,
      ) as string,
    });
    vi.unstubAllEnvs();
    const load = (squadPath: string): Promise<unknown> =>
      loadSources({ tasks: ['qa_1'], squadPath });
    await expect(load(paths.hotpotPath)).rejects.toThrow(/does not hold SQuAD 2.0/);
    await expect(load(join(folder, 'nowhere'))).rejects.toThrow(/Check the path/);
    await mkdir(join(folder, 'empty'));
    await expect(load(join(folder, 'empty'))).rejects.toThrow(/no questions/);
  });

  it('reads a folder of data files as one, in the order of their names', async () => {
    const squadPath = join(folder, 'squad');
    await mkdir(squadPath);
    await writeFile(join(squadPath, 'b.json'), JSON.stringify({ data: squad.data.slice(4) }));
    await writeFile(join(squadPath, 'a.json'), JSON.stringify({ data: squad.data.slice(0, 4) }));
    const { qa } = await loadSources({ tasks: ['qa_1'], squadPath });
    expect(qa).toEqual({ squad: sources.qa.squad });
  });
});
