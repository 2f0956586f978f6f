import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { needsSegmenter, scoreLongBench } from '../longbench/score.js';
import { longBenchTask } from '../longbench/tasks.js';
import { meanOf, round2 } from '../score.js';
import { sharedFile } from '../testing/shared.js';
import { readText } from '../text/read-text.js';
import { classification } from './classification.js';
import { codeSimilarity } from './code-similarity.js';
import { qaF1, qaF1Zh } from './f1.js';
import { count, retrieval, retrievalZh } from './numbers.js';
import { rougeL, rougeLZh } from './rouge.js';
import { loadSegmenter, type Segment } from './segmenter.js';
import { sequenceRatio } from './sequence-matcher.js';

const PYTHON = JSON.parse(
  readFileSync(join(import.meta.dirname, '../testing/python-metrics.json'), 'utf8'),
) as { ratios: [string, string, number][]; segments: string[][] };

let segment: Segment;
beforeAll(async () => {
  segment = await loadSegmenter();
  segment('中文');
});

describe("LongBench's scores of real predictions (Llama-2-7B-chat)", () => {
  const { path, missing } = sharedFile('data/metrics-fixtures/llama2-7b-chat');
  const FILES = [
    ...['narrativeqa', 'multifieldqa_en', 'multifieldqa_zh', 'hotpotqa', '2wikimqa', 'musique'],
    ...['passage_count', 'passage_retrieval_en', 'passage_retrieval_zh', 'qasper.gz'],
    ...['dureader.gz', 'trec.gz', 'triviaqa.gz', 'samsum.gz', 'lsht.gz', 'lcc.gz'],
    'repobench-p.gz',
  ];

  it.skipIf(missing !== undefined).each(FILES)(`%s ${missing ?? ''}`, async (file) => {
    const [name = '', gz] = file.split('.');
    const task = longBenchTask(name);
    const suffix = gz === undefined ? '.jsonl' : '.jsonl.gz';
    const text = await readText(join(path, name + suffix), 'predictions');
    const rows = text
      .split('\n')
      .filter((line) => line !== '')
      .map(
        (line) => JSON.parse(line) as { pred: string; answers: string[]; all_classes: string[] },
      );
    const means = { classes: rows.at(-1)?.all_classes ?? [], segment };
    const scores = rows.map(({ pred, answers }) => scoreLongBench(task, pred, answers, means));

    const published = JSON.parse(readFileSync(join(path, 'result.json'), 'utf8')) as object;
    expect(round2(meanOf(scores).mean)).toBe(published[name as keyof typeof published]);
  });
});

describe('segmenter', () => {
  it('cuts as jieba 0.42.1 does', () => {
    for (const words of PYTHON.segments) expect(segment(words.join(''))).toEqual(words);
  });

  it('loses nothing', () => {
    const text = fc.string({
      unit: fc.constantFrom(...Array.from('中国人民清华大学Ab1-%+.😀 \r\n，')),
    });
    fc.assert(fc.property(text, (any) => segment(any).join('') === any));
  });
});

describe('sequenceRatio', () => {
  it('is what difflib computes, frequent characters of long texts included', () => {
    expect(PYTHON.ratios.some(([, b]) => b.length >= 200)).toBe(true);
    for (const [a, b, ratio] of PYTHON.ratios) expect(sequenceRatio(a, b), `${a}|${b}`).toBe(ratio);
  });

  it('is 1 for equal texts and 0 for texts without a common character', () => {
    const text = fc.string({ minLength: 1, maxLength: 300 });
    fc.assert(fc.property(text, (any) => sequenceRatio(any, any) === 1));
    expect(sequenceRatio('aaa', 'bbb')).toBe(0);
  });
});

describe('codeSimilarity', () => {
  it.each([
    ['skips talk and empty lines at the start', '\n\n```py\n# note\n// note\nx = 1\ny', 'x = 1', 1],
    ['has no use for an answer of talk alone', '```', 'x = 1', 0],
    ['takes an empty line for code', 'x // 1\n\nx', 'x', 0],
    ['calls two empty texts equal', '', '', 1],
    ['rounds 12.5 down to the even 12', 'abcdefgh', 'azzzzzzz', 0.12],
    ['rounds 37.5 up to the even 38', 'abcdefgh', 'abczzzzz', 0.38],
  ])('%s', (_, prediction, reference, score) => {
    expect(codeSimilarity(prediction, reference)).toBe(score);
  });
});

describe('qaF1', () => {
  it.each([
    ['ignores case, punctuation and articles', 'The  "Oberoi" Group.', 'an oberoi group', 1],
    ['counts repetitions', 'no no no', 'no', 0.5],
    ['keeps articles inside words of any script', 'thé an-a', 'thé ana', 1],
    ['splits at spaces that Python knows', 'one\u0085two', 'two one', 1],
    ['is 0 without words', 'the', 'the', 0],
  ])('%s', (_, prediction, reference, score) => {
    expect(qaF1(prediction, reference)).toBe(score);
  });

  it('drops punctuation of Chinese texts after cutting', () => {
    expect(qaF1Zh('「清华大学」。', '清华大学', segment)).toBe(1);
    // The original's list of marks has 》 without 《.
    expect(qaF1Zh('《清华大学》', '清华大学', segment)).toBe(2 / 3);
    expect(qaF1Zh('，。', '，。', segment)).toBe(0);
  });
});

describe('classification', () => {
  it.each([
    ['shares between all names found', 'Food or Date', 'Date', ['Food', 'Date', 'Order'], 1 / 2],
    ['leaves out parts of the right name', 'Disease', 'Disease', ['ease', 'Disease'], 1],
    ['checks no name behind one left out', 'abc', 'abc', ['a', 'b', 'abc'], 1 / 2],
    ['wants the right name', 'Food', 'Date', ['Food', 'Date'], 0],
  ])('%s', (_, prediction, reference, classes, score) => {
    expect(classification(prediction, reference, classes)).toBe(score);
  });
});

describe('numbers', () => {
  it('scores the share of right ones', () => {
    expect(count('40 unique, 40', '40')).toBe(1);
    expect(count('none', '8')).toBe(0);
    expect(retrieval('Paragraph 12, or 3', 'Paragraph 12')).toBe(0.5);
    expect(retrievalZh('段落27', '段落27')).toBe(1);
  });

  it('refuses a reference without a paragraph', () => {
    expect(() => retrieval('1', 'the first')).toThrow(/names no paragraph/);
  });
});

describe('rougeL', () => {
  /** The definition, without tables: words of the subsequence that the reference implementation walks back to. */
  function definition(prediction: string, reference: string): number {
    const split = (text: string): string[][] =>
      text
        .split('.')
        .filter((part) => part !== '')
        .map((part) => part.trim().split(/\s+/));
    const [hypotheses, references] = [split(prediction), split(reference)];
    if (hypotheses.length === 0 || references.length === 0) return 0;
    const longest = (x: string[], y: string[]): number => {
      if (x.length === 0 || y.length === 0) return 0;
      const [a, b] = [x.slice(0, -1), y.slice(0, -1)];
      return x.at(-1) === y.at(-1) ? longest(a, b) + 1 : Math.max(longest(a, y), longest(x, b));
    };
    const walk = (x: string[], y: string[]): string[] => {
      if (x.length === 0 || y.length === 0) return [];
      const [a, b] = [x.slice(0, -1), y.slice(0, -1)];
      if (x.at(-1) === y.at(-1)) return [...walk(a, b), x.at(-1) as string];
      return longest(a, y) > longest(x, b) ? walk(a, y) : walk(x, b);
    };
    const pairs = references.flatMap((x) => hypotheses.map((y) => walk(x, y)));
    const shared = new Set(pairs.flat()).size;
    const p = shared / new Set(hypotheses.flat()).size;
    const r = shared / new Set(references.flat()).size;
    return 2 * ((p * r) / (p + r + 1e-8));
  }

  it('follows the definition', () => {
    const word = fc.constantFrom('a', 'b', 'c', 'd', 'a.', '.', ' ');
    const text = fc.array(word, { maxLength: 7 }).map((words) => words.join(' '));
    fc.assert(
      fc.property(text, text, (prediction, reference) => {
        expect(rougeL(prediction, reference)).toBe(definition(prediction, reference));
      }),
    );
  });

  it('gives up on sentences beyond the recursion limit of the original', () => {
    const words = Array.from({ length: 991 }, (_, index) => `w${String(index)}`);
    expect(rougeL(words.join(' '), words.join(' '))).toBe(0);
    const shorter = words.slice(1).join(' ');
    expect(rougeL(shorter, shorter)).toBeCloseTo(1, 7);
  });

  it('segments Chinese texts', () => {
    expect(rougeLZh('我来到清华大学', '我来到清华大学', segment)).toBeCloseTo(1, 7);
    expect(rougeLZh('', '清华大学', segment)).toBe(0);
  });
});

it('only Chinese metrics over words need a segmenter', () => {
  const names = ['multifieldqa_zh', 'dureader', 'vcsum', 'lsht', 'passage_retrieval_zh', 'qasper'];
  const needing = names.filter((name) => needsSegmenter(longBenchTask(name)));
  expect(needing).toEqual(['multifieldqa_zh', 'dureader', 'vcsum']);
});
