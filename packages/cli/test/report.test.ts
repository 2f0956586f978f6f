import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fakeRun, writeFakeRun } from '../../eval/src/testing/fake-run.js';
import { accel } from './fake-io.js';

let parent: string;
let first: string;
let second: string;
beforeAll(async () => {
  parent = await mkdtemp(join(tmpdir(), 'accel-report-'));
  first = await writeFakeRun(parent, fakeRun({ name: 'first' }));
  second = await writeFakeRun(
    parent,
    fakeRun({
      name: 'second',
      methods: ['full', 'SnapKV'],
      edit: (record) => ({ ...record, score: record.method === 'full' ? record.score : 0 }),
    }),
  );
});
afterAll(() => rm(parent, { recursive: true, force: true }));

describe('accel report', () => {
  it('writes HTML, CSV and Markdown of several runs and prints the table', async () => {
    const [html, csv, markdown] = ['html', 'csv', 'md'].map((end) => join(parent, `report.${end}`));
    const outcome = await accel([
      'report',
      ...[first, second],
      ...['--output', html ?? ''],
      ...['--csv', csv ?? ''],
      ...['--markdown', markdown ?? ''],
    ]);
    expect(outcome).toMatchObject({
      exitCode: 0,
      stderr: expect.stringMatching(
        /^Wrote .*report\.html, .*report\.csv, .*report\.md\.\n$/,
      ) as string,
    });
    expect(outcome.stdout).toMatch(/^RULER\n\nSequence length +first: full .* second: SnapKV\n/);
    expect(await readFile(html ?? '', 'utf8')).toMatch(
      /<title>RULER: first, second<\/title>.*<\/html>\n$/s,
    );
    expect(await readFile(csv ?? '', 'utf8')).toMatch(/^Run,Method,Tasks,niah_single_1_1024/);
    expect(await readFile(markdown ?? '', 'utf8')).toContain('| Sequence length | first: full |');
  });

  it('says what is wrong', async () => {
    const nowhere = await accel(['report', join(parent, 'nowhere'), '--output', join(parent, 'x')]);
    expect(nowhere).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining('Give the folder of a run') as string,
    });
    const folder = await accel(['report', first, '--output', join(parent, 'no', 'x.html')]);
    expect(folder.stderr).toContain('Cannot write');
    expect((await accel(['report'])).exitCode).toBe(2);
  });
});

describe('accel compare', () => {
  it('compares the methods that two runs have in common', async () => {
    const { stdout, exitCode } = await accel(['compare', first, second]);
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/^full \(second\) against full \(first\), query-aware\n/);
    expect(stdout).toContain('SnapKV (second) against SnapKV (first), query-aware');
    expect(stdout).not.toContain('StreamingLLM');
  });

  it('compares methods of a run with full attention, or with another', async () => {
    const all = await accel(['compare', first]);
    expect(all.stdout).toMatch(/^SnapKV against full,.*StreamingLLM against full,/s);
    const one = await accel([
      'compare',
      first,
      '--baseline',
      'SnapKV',
      '--method',
      'StreamingLLM',
      '--json',
    ]);
    expect(JSON.parse(one.stdout)).toMatchObject([
      {
        mode: 'query-aware',
        baseline: { run: 'first', method: 'SnapKV' },
        other: { run: 'first', method: 'StreamingLLM' },
        overall: { pairs: 16 },
      },
    ]);
  });

  it('says what cannot be compared', async () => {
    const unknown = await accel(['compare', first, '--method', 'H2O']);
    expect(unknown).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining('The run first has no method H2O.') as string,
    });
    const other = await writeFakeRun(parent, fakeRun({ name: 'other', seed: 7 }));
    const seeds = await accel(['compare', first, other]);
    expect(seeds.stderr).toContain('do not have the same samples: seed is 42 and 7');
    const lonely = await writeFakeRun(parent, fakeRun({ name: 'lonely', methods: ['full'] }));
    expect(await accel(['compare', lonely])).toMatchObject({
      exitCode: 2,
      stderr: expect.stringContaining('no method besides full') as string,
    });
  });
});
