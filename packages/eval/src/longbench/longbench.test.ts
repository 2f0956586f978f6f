import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openLongBench } from '../benchmark/longbench.js';
import type { EvalSample, PromptMeter, QuestionSample } from '../benchmark/types.js';
import { longBenchConfig } from '../config/defaults.js';
import { sharedFile } from '../testing/shared.js';
import { readText } from '../text/read-text.js';
import { promptParts } from './prompts.js';
import { readLongBench } from './read-records.js';
import type { LongBenchRecord } from './record.js';
import {
  lengthBin,
  LONGBENCH_CATEGORIES,
  LONGBENCH_E_TASKS,
  LONGBENCH_RAW_TASKS,
  LONGBENCH_TASKS,
  longBenchTask,
} from './tasks.js';

/** LongBench cuts nothing while making samples, so no tokenizer is asked. */
const NO_METER = {} as PromptMeter;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'accel-longbench-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

function record(index: number, more: Partial<LongBenchRecord> = {}): LongBenchRecord {
  return {
    input: `question $& ${String(index)}`,
    context: `text {input} ${String(index)}`,
    answers: [`answer ${String(index)}`, 'other'],
    length: 4000 + index,
    language: 'en',
    all_classes: null,
    _id: `id-${String(index)}`,
    ...more,
  };
}

function lines(records: readonly unknown[]): string {
  return records.map((one) => `${JSON.stringify(one)}\n`).join('');
}

async function write(name: string, content: string | Uint8Array): Promise<string> {
  const path = join(folder, name);
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, content);
  return path;
}

async function samplesOf(
  task: string,
  samples: number | null = null,
  dataPath: string = folder,
): Promise<QuestionSample[]> {
  const benchmark = await openLongBench(longBenchConfig({ tasks: [task], samples, dataPath }));
  const [opened] = benchmark.tasks;
  if (opened === undefined) throw new Error('no task');
  const all: EvalSample[] = [];
  const iterator = benchmark.samples(opened, NO_METER);
  for (let next = iterator.next(); next.done !== true; next = iterator.next()) {
    if (next.value !== undefined) all.push(next.value);
  }
  return all as QuestionSample[];
}

describe('tasks', () => {
  it('are 21, and 13 of LongBench-E, in six groups', () => {
    expect(LONGBENCH_TASKS).toHaveLength(21);
    expect(LONGBENCH_E_TASKS).toHaveLength(13);
    expect([...LONGBENCH_CATEGORIES.values()].map((names) => names.length)).toEqual([
      4, 4, 4, 4, 3, 2,
    ]);
    for (const name of LONGBENCH_RAW_TASKS) expect(longBenchTask(name).name).toBe(name);
    expect(longBenchTask('qasper_e')).toMatchObject({ metric: 'qa_f1', maxNewTokens: 128 });
    expect(() => longBenchTask('quasper')).toThrow(/Did you mean qasper/);
  });

  it('have bins of length with the upper end outside', () => {
    expect([3999, 4000, 7999, 8000].map(lengthBin)).toEqual(['0-4k', '4-8k', '4-8k', '8k+']);
  });

  const prompts = sharedFile('data/longbench/dataset2prompt.json');
  it.skipIf(prompts.missing !== undefined)(
    `have the official prompts and limits ${prompts.missing ?? ''}`,
    async () => {
      const official = JSON.parse(await readText(prompts.path, 'prompts')) as object;
      const limits = JSON.parse(
        await readText(sharedFile('data/longbench/dataset2maxlen.json').path, 'limits'),
      ) as object;
      const ours = LONGBENCH_TASKS.map(({ name }) => {
        const { before, after } = promptParts(name);
        return [name, `${before}{context}${after}`];
      });
      expect(Object.fromEntries(ours)).toEqual(official);
      expect(
        Object.fromEntries(LONGBENCH_TASKS.map(({ name, maxNewTokens }) => [name, maxNewTokens])),
      ).toEqual(limits);
      // A record's own words never stand before the text.
      for (const { name } of LONGBENCH_TASKS) expect(promptParts(name).before).not.toContain('{');
    },
  );
});

describe('openLongBench', () => {
  const shared = sharedFile('data/longbench');
  it.skipIf(shared.missing !== undefined)(
    `makes the official prompt of 237 real records ${shared.missing ?? ''}`,
    async () => {
      const official = JSON.parse(
        await readText(join(shared.path, 'dataset2prompt.json'), 'prompts'),
      ) as Record<string, string>;
      let total = 0;
      for (const { name } of LONGBENCH_TASKS) {
        const text = await readText(join(shared.path, `${name}.jsonl.gz`), 'records');
        const records = text.trimEnd().split('\n');
        const samples = await samplesOf(name, null, shared.path);
        expect(samples).toHaveLength(records.length);
        for (const [index, sample] of samples.entries()) {
          const { context, input } = JSON.parse(records[index] ?? '') as LongBenchRecord;
          const prompt = (official[name] ?? '').replace(/\{(context|input)\}/g, (_, part) =>
            part === 'context' ? context : input,
          );
          expect(sample.context + sample.question === prompt, `${name} ${String(index)}`).toBe(
            true,
          );
          expect(sample.firstQuestion).not.toBe(sample.question);
          expect(sample.context.endsWith(context)).toBe(true);
        }
        total += samples.length;
      }
      expect(total).toBe(237);
    },
  );

  it("asks the next record's question first, and what a sample is does not depend on how many are taken", async () => {
    await write('musique.jsonl', lines([0, 1, 2].map((index) => record(index))));
    const all = await samplesOf('musique');
    expect(all.map(({ firstQuestion }) => /question \$.*/.exec(firstQuestion)?.[0])).toEqual([
      'question $& 1',
      'question $& 2',
      'question $& 0',
    ]);
    expect(all[0]).toMatchObject({
      references: ['answer 0', 'other'],
      facts: { _id: 'id-0', language: 'en', words: 4000 },
    });
    expect(await samplesOf('musique', 2)).toEqual(all.slice(0, 2));
    expect(await samplesOf('musique', 9)).toEqual(all);
  });

  it('asks about the text where records have no questions', async () => {
    await write('vcsum.jsonl', lines([record(0, { input: '' }), record(1, { input: '' })]));
    const [sample] = await samplesOf('vcsum');
    expect(sample?.firstQuestion).toContain('问题：');
  });

  it('scores with the classes of the last record, first lines only', async () => {
    await write(
      'trec.jsonl',
      lines([record(0, { all_classes: ['Food'] }), record(1, { all_classes: ['Food', 'Date'] })]),
    );
    const benchmark = await openLongBench(longBenchConfig({ tasks: ['trec'], dataPath: folder }));
    const [task] = benchmark.tasks;
    const [sample] = await samplesOf('trec');
    if (task === undefined || sample === undefined) throw new Error('no sample');
    const asked = { ...sample, references: ['Date', 'Order'] };
    expect(benchmark.score(task, '\nDate or Food\nDate', asked)).toBe(50);
    expect(sample.facts?.['classes']).toEqual(['Food', 'Date']);
  });

  it('ends samsum at a line', async () => {
    for (const task of ['samsum', 'samsum_e']) await write(`${task}.jsonl`, lines([record(0)]));
    const tasks = ['samsum', 'samsum_e', 'musique'];
    const benchmark = await openLongBench(longBenchConfig({ tasks, dataPath: folder }));
    expect(benchmark.tasks.map(({ stop }) => stop)).toEqual([['\n'], ['\n'], undefined]);
  });

  it('has another digest for another record, not for another number of samples', async () => {
    const digest = async (samples: number | null): Promise<string | undefined> =>
      (await openLongBench(longBenchConfig({ tasks: ['lcc'], samples, dataPath: folder }))).tasks[0]
        ?.data;
    await write('lcc.jsonl', lines([record(0), record(1)]));
    const before = await digest(null);
    expect(await digest(1)).toBe(before);
    await write('lcc.jsonl', lines([record(0), record(1, { answers: ['x'] })]));
    expect(await digest(null)).not.toBe(before);
  });
});

describe('readLongBench', () => {
  const records = [record(0), record(1, { all_classes: ['A', 'B'] })];

  it('reads the same from every kind of file', async () => {
    const column = (name: keyof LongBenchRecord): { name: string; data: unknown[] } => ({
      name,
      data: records.map((one) => one[name]),
    });
    const parquet = parquetWriteBuffer({
      columnData: [
        { ...column('input'), type: 'STRING' },
        { ...column('context'), type: 'STRING' },
        { ...column('answers'), type: 'JSON' },
        { name: 'length', data: records.map(({ length }) => BigInt(length)), type: 'INT64' },
        { ...column('language'), type: 'STRING' },
        { ...column('all_classes'), type: 'JSON' },
        { ...column('_id'), type: 'STRING' },
      ],
    });
    await write('plain/qasper.jsonl', lines(records));
    await write('packed/qasper.jsonl.gz', gzipSync(lines(records)));
    await write('official/data/qasper.jsonl', lines(records));
    await write('hub/qasper/test-00000-of-00001.parquet', new Uint8Array(parquet));

    const plain = await readLongBench(join(folder, 'plain'), 'qasper', null);
    expect(plain).toMatchObject({ records, available: 2, classes: ['A', 'B'] });
    for (const kind of ['packed', 'official', 'hub']) {
      expect(await readLongBench(join(folder, kind), 'qasper', null), kind).toEqual(plain);
    }
  });

  it('says where a record is wrong and what is', async () => {
    await write('bad/lsht.jsonl', lines([record(0), { ...record(1), answers: 'one' }]));
    await expect(readLongBench(join(folder, 'bad'), 'lsht', 1)).rejects.toThrow(
      /lsht\.jsonl:2 is not a LongBench record[^]*answers/,
    );
    await write('bad/trec.jsonl', `${JSON.stringify(record(0))}\n\n{"input": `);
    await expect(readLongBench(join(folder, 'bad'), 'trec', null)).rejects.toThrow(
      /trec\.jsonl:3 is not JSON/,
    );
    await write('bad/qmsum/test-0.parquet', 'not parquet');
    await expect(readLongBench(join(folder, 'bad'), 'qmsum', null)).rejects.toThrow(
      /test-0\.parquet as parquet/,
    );
    await write('bad/lcc.jsonl', '\n');
    await expect(readLongBench(join(folder, 'bad'), 'lcc', null)).rejects.toThrow(/no records/);
  });

  it('says what to do when there is no data', async () => {
    await expect(readLongBench(folder, 'narrativeqa', null)).rejects.toThrow(
      /no narrativeqa\.jsonl.*Set dataPath/,
    );
    const before = process.env['ACCEL_DATA'];
    process.env['ACCEL_DATA'] = folder;
    try {
      await expect(openLongBench(longBenchConfig({ tasks: ['lcc'] }))).rejects.toThrow(
        /accel data pull longbench/,
      );
    } finally {
      if (before === undefined) delete process.env['ACCEL_DATA'];
      else process.env['ACCEL_DATA'] = before;
    }
  });
});
