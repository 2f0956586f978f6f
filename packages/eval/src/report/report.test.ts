import { appendFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MODES } from '../prompt/modes.js';
import type { EvalRecord, RunRecord } from '../runner/records.js';
import { fakeRun, writeFakeRun } from '../testing/fake-run.js';
import { formatAverageCsv, formatCsv, formatRunsCsv } from './csv.js';
import { formatMarkdown } from './markdown.js';
import { paretoPoints } from './pareto.js';
import { formatPareto } from './pareto-table.js';
import { readRun } from './read-run.js';
import { rulerFigures } from './ruler-figures.js';
import { estimate, tQuantile, wilson } from './statistics.js';
import { summarise } from './summary.js';
import type { SummaryAverage } from './summary.js';
import { formatScores, formatTable } from './tables.js';

const FAILURE = { code: 'ERR_ACCEL_OUT_OF_MEMORY', message: '8 GiB wanted, 2 GiB free' };

function fail({ id, task, length, sample, mode, method, policy }: EvalRecord): RunRecord {
  return { id, task, length, sample, mode, method, policy, failure: FAILURE };
}

describe('statistics', () => {
  it('gives intervals that are known from the literature', () => {
    // Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I, method 3.
    expect(wilson((100 * 81) / 263, 263).map((end) => end / 100)).toEqual([
      expect.closeTo(0.2553, 4),
      expect.closeTo(0.3662, 4),
    ]);
    expect(wilson((100 * 1) / 29, 29).map((end) => end / 100)).toEqual([
      expect.closeTo(0.0061, 4),
      expect.closeTo(0.1718, 4),
    ]);
    // Quantiles as printed in tables of Student's t.
    for (const [freedom, quantile] of [
      [1, 12.706],
      [10, 2.228],
      [31, 2.0395],
      [40, 2.0211],
      [120, 1.9799],
    ] as const) {
      expect(tQuantile(freedom)).toBeCloseTo(quantile, 3);
    }
  });

  it('weighs strata, and says nothing where one is empty', () => {
    const nats = estimate(
      [
        { weight: 0.5, values: [1, 3] },
        { weight: 0.5, values: [4, 4, 4] },
      ],
      false,
    );
    // Variance of the first mean: 2 / 2; weighted 0.25. One degree of freedom, since the other stratum has no variance.
    expect(nats).toEqual({ mean: 3, se: 0.5, ci95: [3 - 0.5 * 12.7062, 3 + 0.5 * 12.7062] });
    expect(estimate([{ weight: 1, values: [2] }], false)).toEqual({
      mean: 2,
      se: null,
      ci95: null,
    });
    expect(estimate([{ weight: 1, values: [] }], true)).toBeNull();
  });

  it('has score intervals with a width, inside 0 to 100, around the mean', () => {
    fc.assert(
      fc.property(
        fc.array(fc.array(fc.integer({ min: 0, max: 100 }), { minLength: 1, maxLength: 9 }), {
          minLength: 1,
          maxLength: 4,
        }),
        (lists) => {
          const strata = lists.map((values) => ({ weight: 1 / lists.length, values }));
          const { mean = NaN, ci95 } = estimate(strata, true) ?? {};
          const [low, high] = ci95 ?? [NaN, NaN];
          expect(low).toBeGreaterThanOrEqual(0);
          expect(high).toBeLessThanOrEqual(100);
          expect(high).toBeGreaterThan(low);
          expect(mean).toBeGreaterThanOrEqual(low - 1e-9);
          expect(mean).toBeLessThanOrEqual(high + 1e-9);
        },
      ),
    );
  });

  it("computes RULER's figures of Llama-3.1-8B as its README prints them", () => {
    const scores = [95.5, 93.8, 91.6, 87.4, 84.7, 77.0];
    const averages = scores.map((score, i) => ({ length: 4096 * 2 ** i, score }) as SummaryAverage);
    const figures = rulerFigures(averages.toReversed());
    expect(figures.effectiveLength).toBe(32768);
    expect(figures.increasing).toBeCloseTo(85.4, 1);
    expect(figures.decreasing).toBeCloseTo(91.3, 1);
  });
});

describe('a summary', () => {
  it('has what was computed by hand', () => {
    const scores = [100, 0, 50, 0];
    const { run, records } = fakeRun({
      methods: ['SnapKV'],
      tasks: ['a', 'b'],
      lengths: [1024],
      samples: 2,
      edit: (record) => ({
        ...record,
        score: scores[2 * ['a', 'b'].indexOf(record.task) + record.sample] ?? NaN,
        prediction: record.sample === 0 ? 'text' : ' \n',
        prefillSeconds: 2,
        decodeSeconds: 1,
        decodeTokens: 10 * (1 + record.sample),
      }),
    });
    const { cells, averages, totals } = summarise(run, records);
    expect(cells.map(({ task, score, n, nulls }) => ({ task, score, n, nulls }))).toEqual([
      { task: 'a', score: 50, n: 2, nulls: 1 },
      { task: 'b', score: 25, n: 2, nulls: 1 },
    ]);
    expect(averages[0]).toMatchObject({
      score: 37.5,
      // Half of √(50² + 25²), the standard errors of the two tasks.
      se: expect.closeTo(Math.hypot(50, 25) / 2, 10) as number,
      ci95: wilson(37.5, 4),
      seconds: 3,
      totalSeconds: 12,
      decodeTokensPerSecond: 15,
      rowsIn: 960,
      rowsStored: 256,
      acted: { 'snapkv.select': 32 },
    });
    expect(totals[0]).toMatchObject({ score: 37.5, n: 4 });
  });

  it('counts tasks alike, however many records they have', () => {
    const { summary } = fakeRun({
      methods: ['full'],
      tasks: ['a', 'b'],
      lengths: [null],
      benchmark: 'LongBench',
      samples: 3,
      edit: (record) =>
        record.task === 'b' && record.sample > 0
          ? undefined
          : { ...record, score: record.task === 'a' ? 90 : 30 },
    });
    expect(summary.averages[0]).toMatchObject({ score: 60, n: 4, se: null });
    expect(summary.records).toEqual({ expected: 6, answered: 4, failed: 0 });
  });

  it('has no mean where a task has no answer, and counts failures', () => {
    const { summary } = fakeRun({
      methods: ['full'],
      edit: (record) =>
        record.task === 'vt' && record.length === 4096
          ? fail(record)
          : record.id === 'vt_1024/0/query-aware/full'
            ? fail(record)
            : record,
    });
    const cell = (task: string, length: number) =>
      summary.cells.find((entry) => entry.task === task && entry.length === length);
    expect(cell('vt', 1024)).toMatchObject({
      n: 3,
      failed: 1,
      score: expect.any(Number) as number,
    });
    expect(cell('vt', 4096)).toMatchObject({ n: 0, failed: 4, score: null, kv: null });
    expect(summary.averages.map(({ score }) => score !== null)).toEqual([true, false]);
    expect(summary.totals[0]).toMatchObject({ score: null, failed: 5 });
    expect(formatTable(summary)).toContain('Without an answer: 5 records');
  });

  it('has no receipts where an endpoint answered', () => {
    const { summary } = fakeRun({
      methods: ['full'],
      edit: (record) => ({ ...record, receipt: undefined }),
    });
    expect(summary.totals[0]).toMatchObject({
      rowsIn: null,
      layerRows: null,
      kv: null,
      density: null,
      acted: null,
      fallbacks: [],
    });
    expect(formatTable(summary)).toMatch(/full +1K +[\d.]+ \([\d.–]+\) +- +- +1\.02/);
  });

  it('does not depend on the order of records, and its means are consistent', () => {
    const { run, records, summary } = fakeRun({ modes: MODES, samples: 3 });
    fc.assert(
      fc.property(fc.shuffledSubarray([...records], { minLength: records.length }), (shuffled) => {
        expect(summarise(run, shuffled)).toEqual(summary);
      }),
      { numRuns: 10 },
    );
    for (const average of summary.averages) {
      const cells = summary.cells.filter(
        ({ method, mode, length }) =>
          method === average.method && mode === average.mode && length === average.length,
      );
      const sum = cells.reduce((total, { score }) => total + (score ?? NaN), 0);
      expect(average.score).toBeCloseTo(sum / cells.length, 9);
      expect(average.n).toBe(cells.reduce((total, { n }) => total + n, 0));
    }
  });

  it("groups LongBench's tasks by category, and LongBench-E's by length", () => {
    const { summary } = fakeRun({
      benchmark: 'LongBench',
      methods: ['full'],
      tasks: ['qasper', 'narrativeqa', 'trec', 'qasper_e', 'lcc_e'],
      lengths: [null],
      samples: 3,
    });
    expect(summary.groups.map(({ group, n }) => [group, n])).toEqual([
      ['single-document QA', 6],
      ['few-shot learning', 3],
      ['single-document QA (E)', 3],
      ['code (E)', 3],
      ['0-4k (E)', 2],
      ['4-8k (E)', 2],
      ['8k+ (E)', 2],
    ]);
  });
});

describe('tables', () => {
  const run = fakeRun({ methods: ['full', 'SnapKV'], lengths: [1024, 4096] });

  it('are as the seed toolkit prints them', () => {
    expect(formatScores([run])).toMatchInlineSnapshot(`
      "RULER

      Sequence length                           full               SnapKV
      ─────────────────────────  ───────────────────  ───────────────────
      1K                         100.00 (67.6–100.0)    62.50 (30.6–86.3)
      4K                         100.00 (67.6–100.0)  100.00 (67.6–100.0)
      Total                      100.00 (80.6–100.0)    81.25 (57.0–93.4)
      wAvg (inc)                              100.00                87.50
      wAvg (dec)                              100.00                75.00
      Effective length (≥ 85.6)                   4K                   4K
      KV cache                               5.1 MiB            704.0 KiB
      Reasoning time                         0:00:43              0:00:43"
    `);
    expect(formatTable(run.summary, { byTask: true })).toMatchInlineSnapshot(`
      "Method  Task           Length                Score    Kept rows   KV cache  Prefill s  Decode tok/s
      ──────  ─────────────  ──────  ───────────────────  ───────────  ─────────  ─────────  ────────────
      full    niah_single_1      1K  100.00 (51.0–100.0)    960 / 960    2.1 MiB       1.02          91.3
      full    vt                 1K  100.00 (51.0–100.0)    960 / 960    2.1 MiB       1.02          91.3
      full    niah_single_1      4K  100.00 (51.0–100.0)  4032 / 4032    8.1 MiB       4.10          60.5
      full    vt                 4K  100.00 (51.0–100.0)  4032 / 4032    8.1 MiB       4.10          60.5
      SnapKV  niah_single_1      1K    50.00 (15.0–85.0)    320 / 960  704.0 KiB       1.02         103.4
      SnapKV  vt                 1K    75.00 (30.1–95.4)    320 / 960  704.0 KiB       1.02         103.4
      SnapKV  niah_single_1      4K  100.00 (51.0–100.0)   320 / 4032  704.0 KiB       4.10         103.4
      SnapKV  vt                 4K  100.00 (51.0–100.0)   320 / 4032  704.0 KiB       4.10         103.4"
    `);
    expect(formatMarkdown([run])).toMatchInlineSnapshot(`
      "### RULER

      fake: fake-1m on cpu; 32 of 32 records.

      #### Scores by length

      | Sequence length | full | SnapKV |
      | --- | ---: | ---: |
      | 1K | 100.00 (67.6–100.0) | 62.50 (30.6–86.3) |
      | 4K | 100.00 (67.6–100.0) | 100.00 (67.6–100.0) |
      | Total | 100.00 (80.6–100.0) | 81.25 (57.0–93.4) |
      | wAvg (inc) | 100.00 | 87.50 |
      | wAvg (dec) | 100.00 | 75.00 |
      | Effective length (≥ 85.6) | 4K | 4K |
      | KV cache | 5.1 MiB | 704.0 KiB |
      | Reasoning time | 0:00:43 | 0:00:43 |

      #### Scores by task at 1K

      | Task | full | SnapKV |
      | --- | ---: | ---: |
      | niah_single_1 | 100.00 (51.0–100.0) | 50.00 (15.0–85.0) |
      | vt | 100.00 (51.0–100.0) | 75.00 (30.1–95.4) |

      #### Scores by task at 4K

      | Task | full | SnapKV |
      | --- | ---: | ---: |
      | niah_single_1 | 100.00 (51.0–100.0) | 100.00 (51.0–100.0) |
      | vt | 100.00 (51.0–100.0) | 100.00 (51.0–100.0) |

      In parentheses: 95 % confidence intervals. A dash: no answer, or not run.
      "
    `);
  });

  it('are CSV as the seed toolkit writes it', () => {
    expect(formatCsv(run.summary)).toMatchInlineSnapshot(`
      "Method,Tasks,niah_single_1_1024,vt_1024,niah_single_1_4096,vt_4096
      full,Score,100,100,100,100
      full,Nulls,0/4,0/4,0/4,0/4
      SnapKV,Score,50,75,100,100
      SnapKV,Nulls,0/4,0/4,0/4,0/4
      "
    `);
    expect(formatAverageCsv(run.summary)).toMatchInlineSnapshot(`
      "Method,Length,Average Score
      full,1024,100
      full,4096,100
      full,Total,100
      SnapKV,1024,62.5
      SnapKV,4096,100
      SnapKV,Total,81.25
      "
    `);
    const two = fakeRun({ name: 'a,b', methods: ['full'], modes: MODES.slice(0, 2), samples: 1 });
    expect(formatRunsCsv([run, two]).split('\n')[5]).toMatch(/^"a,b",full,query-aware,Score,/);
  });

  it('set runs of a benchmark side by side', () => {
    const other = fakeRun({ name: 'other', methods: ['full'], lengths: [8192] });
    const [, , head] = formatScores([run, other]).split('\n');
    expect(head?.split(/ {2,}/)).toEqual([
      'Sequence length',
      'fake: full',
      'fake: SnapKV',
      'other: full',
    ]);
  });
});

describe('trade-offs', () => {
  it('mark points that no other beats', () => {
    const { summary, ...rest } = fakeRun({ methods: ['a', 'b', 'c', 'd'], lengths: [1024] });
    const of = { a: [10, 50], b: [20, 80], c: [20, 70], d: [30, 80] };
    const averages = summary.averages.map((average) => {
      const [bytes = 0, score = 0] = of[average.method as keyof typeof of];
      return { ...average, score, kv: { measuredBytes: bytes, arithmeticBytes: 0, fullBytes: 0 } };
    });
    const points = paretoPoints([{ ...rest, summary: { ...summary, averages } }], 'kvBytes');
    expect(points.map(({ method, efficient }) => [method, efficient])).toEqual([
      ['a', true],
      ['b', true],
      ['c', false],
      ['d', false],
    ]);
    expect(formatPareto([{ ...rest, summary: { ...summary, averages } }])).toMatch(/b +20 B .*✓/);
  });

  it('prefer less where less is better', () => {
    const run = fakeRun({ benchmark: 'NLL', tasks: ['text'], lengths: [1024] });
    const points = paretoPoints([run], 'kvBytes');
    // Full attention costs most and is likeliest; StreamingLLM keeps more than SnapKV and is less likely.
    expect(points.map(({ method, efficient }) => [method, efficient])).toEqual([
      ['full', true],
      ['SnapKV', true],
      ['StreamingLLM', false],
    ]);
  });
});

describe('a run on disk', () => {
  let parent: string;
  beforeAll(async () => (parent = await mkdtemp(join(tmpdir(), 'accel-report-'))));
  afterAll(() => rm(parent, { recursive: true, force: true }));

  it('is read as it was written; later lines of an id count, and a torn last one does not', async () => {
    const run = fakeRun({ name: 'complete' });
    const folder = await writeFakeRun(parent, run);
    expect(await readRun(folder)).toEqual({ ...run, folder });
    const [first, second] = run.records;
    if (first === undefined || second === undefined) throw new Error('no records');
    const failed = fail(first as EvalRecord);
    const path = join(folder, 'records.jsonl');
    await appendFile(path, `${JSON.stringify(failed)}\n${JSON.stringify(second).slice(0, 40)}`);
    const read = await readRun(folder);
    expect(read.records).toEqual([failed, ...run.records.slice(1)]);
    expect(read.summary.records).toEqual({ expected: 48, answered: 47, failed: 1 });
  });

  it('is refused with what to do', async () => {
    await expect(readRun(join(parent, 'nowhere'))).rejects.toThrow(/Give the folder of a run/);
    const folder = await writeFakeRun(parent, fakeRun({ name: 'broken' }));
    const records = join(folder, 'records.jsonl');
    await appendFile(records, '{"id": 7}\n');
    await expect(readRun(folder)).rejects.toThrow(/records\.jsonl:50 is not a record/);
    await writeFile(records, '{"format": "accel-eval-records/1"}\n');
    await expect(readRun(folder)).rejects.toThrow(/not a record file of this version/);
    const run = join(folder, 'run.json');
    await writeFile(run, '{"format": "accel-eval-run/9"}');
    await expect(readRun(folder)).rejects.toThrow(/accel-eval-run\/9, not accel-eval-run\/2/);
    await writeFile(run, '{"format": "accel-eval-run/2"}');
    await expect(readRun(folder)).rejects.toThrow(/not the description of a run.*\n.*settings/s);
  });
});
