import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { generateSamples } from './generate.js';
import { fill } from './prompts.js';
import { loadSources } from './sources.js';
import { maxNewTokens, RULER_TASKS, rulerTask } from './tasks.js';
import type { GenerateContext, RulerSample, RulerSources } from './types.js';
import { KeyWords } from './words.js';

const countTokens = (text: string): number =>
  text.split(/\s+/).filter((word) => word !== '').length;

let sources: RulerSources;
beforeAll(async () => {
  sources = await loadSources();
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
  });

  it.each(RULER_TASKS.map((task) => task.name))(
    'make %s questions whose text holds every answer',
    (name) => {
      for (const sample of take(name, 3)) {
        expect(sample.measuredLength).toBeLessThanOrEqual(2048);
        expect(sample.measuredLength).toBeGreaterThan(1024);
        expect(sample.references.length).toBeGreaterThan(0);
        for (const reference of sample.references) expect(sample.input).toContain(reference);
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
    expect(take('vt', 1)).toEqual(take('vt', 3).slice(0, 1));
  });

  it('depends on the seed', () => {
    expect(take('vt', 1, { seed: 1 })).not.toEqual(take('vt', 1));
  });

  it('counts the chat template and leaves room for it', () => {
    const wrap = (text: string): string => `${'header '.repeat(200)}${text}`;
    for (const name of ['niah_single_1', 'vt']) {
      const [plain] = take(name, 1);
      const [wrapped] = take(name, 1, { wrap });
      expect(wrapped?.measuredLength).toBeLessThanOrEqual(2048);
      expect(wrapped?.input).not.toContain('header');
      expect(countTokens(plain?.input ?? '')).toBeGreaterThan(
        countTokens(wrapped?.input ?? '') + 150,
      );
    }
  });

  it('leaves out the worked example of vt on request', () => {
    const questions = (sample: RulerSample | undefined): number =>
      (sample?.input ?? '').split('Question:').length - 1;
    const [shown] = take('vt', 1);
    const [hidden] = take('vt', 1, { workedExample: false });
    expect([questions(shown), questions(hidden)]).toEqual([2, 1]);
    expect(hidden?.measuredLength).toBeGreaterThan(2000);
  });

  it.each(['niah_single_2', 'niah_multikey_3', 'vt'])(
    'ends with an error when %s cannot fit',
    (name) => {
      expect(() => take(name, 1, { length: 200 })).toThrow(
        expect.objectContaining({
          code: 'ERR_ACCEL_ARGUMENT',
          message: expect.stringMatching(
            /does not fit: its smallest prompt and answer take \d+ tokens and the length is 200/,
          ) as string,
        }),
      );
    },
  );

  it('shows a field that nothing fills', () => {
    expect(fill('{a} {b}', { a: '$&' })).toBe('$& {b}');
  });
});

describe('tasks', () => {
  it('give vt 80 new tokens under the loom preset', () => {
    expect(maxNewTokens(rulerTask('vt'), 'ruler')).toBe(30);
    expect(maxNewTokens(rulerTask('vt'), 'loom')).toBe(80);
    expect(maxNewTokens(rulerTask('niah_single_1'), 'loom')).toBe(128);
  });
});

describe('loadSources', () => {
  it('reads text and JSON essays and word folders', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'accel-eval-'));
    await writeFile(join(folder, 'nounlist.txt'), 'whale\nship\n');
    await writeFile(join(folder, 'adjectivelist.txt'), 'white\n\n');
    await writeFile(join(folder, 'essay.json'), JSON.stringify({ text: 'Call me\nIshmael.' }));
    await writeFile(join(folder, 'essay.txt'), 'Call me  Ishmael.');
    const json = await loadSources({ wordsPath: folder, essayPath: join(folder, 'essay.json') });
    const text = await loadSources({ wordsPath: folder, essayPath: join(folder, 'essay.txt') });
    expect(json.essay.words).toEqual(['Call', 'me', 'Ishmael.']);
    expect(text.essay.words).toEqual(json.essay.words);
    expect([json.words.length, json.words.at(1)]).toEqual([2, 'white-whale']);
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
});
