import { appendFile, mkdtemp, readdir, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Policy } from '@accel/core';
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { openBenchmark } from '../benchmark/open.js';
import { rulerConfig } from '../config/defaults.js';
import type { RulerConfig } from '../config/types.js';
import type { Benchmark } from '../benchmark/types.js';
import type { Job } from '../execute/types.js';
import { fakeModel, type FakeBehaviour } from '../testing/fake-model.js';
import { runEval } from './run-eval.js';
import type { RunRecord } from './records.js';
import type { RunFile } from './run-file.js';
import type { EvalEvent, EvalOptions } from './types.js';

const policy = (options: Record<string, unknown>): Policy => {
  const parts = [{ id: 'test', slot: 'select', options }];
  return { parts, toJSON: () => ({ version: 1, parts }) } as unknown as Policy;
};
const full = { name: 'full', policy: { ...policy({}), parts: [] } };
const half = { name: 'half', policy: policy({ keep: 0.5 }) };
const CONFIG = { tasks: ['niah_single_1', 'vt'], lengths: [1024, 2048], samples: 2 };

const benchmarks = new Map<string, Benchmark>();
let folder: string;
let out: string;
/** Jobs that were handed over. */
let jobs: Job[];

async function open(config: RulerConfig): Promise<Benchmark> {
  const key = JSON.stringify(config);
  const known = benchmarks.get(key) ?? (await openBenchmark(config));
  benchmarks.set(key, known);
  return known;
}

beforeAll(async () => {
  await open(rulerConfig(CONFIG));
});
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'accel-eval-'));
  out = join(folder, 'out');
  jobs = [];
});

interface Change {
  readonly config?: Partial<RulerConfig>;
  readonly model?: Partial<FakeBehaviour>;
  readonly run?: Partial<EvalOptions>;
}

async function options({ config, model, run }: Change = {}): Promise<EvalOptions> {
  const filled = rulerConfig({ ...CONFIG, ...config });
  const given = fakeModel({
    // The first magic number of the text: right for single needles.
    answer: (prompt) => ` ${/is: (\d{7})\./.exec(prompt)?.[1] ?? 'nothing'}.`,
    onBatch: (batch) => void jobs.push(...batch),
    ...model,
  });
  const benchmark = await open(filled);
  return { ...given, config: filled, benchmark, methods: [full, half], output: out, ...run };
}

async function collect(given: EvalOptions): Promise<EvalEvent[]> {
  const events: EvalEvent[] = [];
  for await (const event of runEval(given)) events.push(event);
  return events;
}

const run = async (change: Change = {}): Promise<EvalEvent[]> => collect(await options(change));
const recordsOf = (events: readonly EvalEvent[]): RunRecord[] =>
  events.flatMap((event) => (event.type === 'record' ? [event.record] : []));
async function written(path = out): Promise<RunRecord[]> {
  const lines = (await readFile(join(path, 'records.jsonl'), 'utf8')).trimEnd().split('\n');
  return lines.slice(1).map((line) => JSON.parse(line) as RunRecord);
}
const runFile = async (path = out): Promise<RunFile> =>
  JSON.parse(await readFile(join(path, 'run.json'), 'utf8')) as RunFile;

/** Ids in the order of results: length, task, method, mode, sample. */
const IDS = [1024, 2048].flatMap((length) =>
  ['niah_single_1', 'vt'].flatMap((task) =>
    ['full', 'half'].flatMap((method) =>
      [0, 1].map((i) => `${task}_${length}/${i}/query-aware/${method}`),
    ),
  ),
);

describe('runEval', () => {
  it('runs and scores every record, and has them in their order at the end', async () => {
    const events = await run();
    expect(recordsOf(events)).toHaveLength(16);
    const records = await written();
    expect(records.map(({ id }) => id)).toEqual(IDS);
    for (const record of records) {
      expect(record).toMatchObject({ score: record.task === 'vt' ? 0 : 100, mode: 'query-aware' });
    }
    expect(events[0]).toMatchObject({
      type: 'start',
      resumed: 0,
      progress: { done: 0, total: 16 },
    });
    const last = events.filter(({ type }) => type === 'record').at(-1);
    expect(last).toMatchObject({ progress: { done: 16, total: 16 } });
    const prompts = jobs.flatMap(({ prompt }) => prompt.turns.map(({ ids }) => ids.length));
    expect(Math.max(...prompts)).toBeLessThanOrEqual(2048);
  });

  it('says in run.json what was run, with the exact prompts and the achieved caches', async () => {
    await run({ run: { command: ['accel', 'eval'] } });
    expect((await readdir(out)).sort()).toEqual([
      'average_summary.csv',
      'records.jsonl',
      'run.json',
      'summary.csv',
      'summary.json',
    ]);
    const file = await runFile();
    expect(file).toMatchObject({
      settings: { benchmark: 'RULER', model: 'fake', modelFiles: 'files', device: 'cpu' },
      seeds: { samples: 42 },
      methods: [{ name: 'full' }, { name: 'half', policy: half.policy.toJSON() }],
      calls: [{ resumed: 0, executor: 'model', batchSize: 1, command: ['accel', 'eval'] }],
    });
    expect(file.calls[0]?.finished).toMatch(/^\d{4}-/);
    expect(file.achieved.map(({ id }) => id)).toEqual(IDS);
    expect(file.achieved[0]).toMatchObject({ rowsStored: 15, kvBytes: 4096 });
    const [specimen] = file.prompts;
    expect(specimen?.head).toMatch(/^A special magic number is hidden/);
    expect(specimen?.tail).toMatch(/mentioned in the provided text is$/);
    expect(specimen?.ids[0]).toBe(0);
    expect(file.prompts).toHaveLength(4);
  });

  it('packs batches of one task, method and mode, and fills all slots', async () => {
    let running = 0;
    let most = 0;
    const sizes: number[] = [];
    const events = await run({
      config: { samples: 3 },
      model: {
        batchSize: 2,
        slots: 3,
        onBatch: async (batch) => {
          sizes.push(batch.length);
          most = Math.max(most, ++running);
          await new Promise((resolve) => setTimeout(resolve, 5));
          running--;
          return undefined;
        },
      },
    });
    expect(recordsOf(events)).toHaveLength(24);
    expect(sizes.filter((size) => size === 2)).toHaveLength(8);
    expect(most).toBe(3);
    const ids = (await written()).map(({ id }) => id);
    expect(ids).toEqual([...ids].sort((a, b) => order(a) - order(b)));
    function order(id: string): number {
      const [cell = '', sample = '', , method = ''] = id.split('/');
      const cells = ['niah_single_1_1024', 'vt_1024', 'niah_single_1_2048', 'vt_2048'];
      return cells.indexOf(cell) * 100 + (method === 'half' ? 10 : 0) + Number(sample);
    }
  });

  it('continues where it was stopped, with the same result as in one go', async () => {
    await run({ run: { output: join(folder, 'whole') } });
    const stop = new AbortController();
    const seen: RunRecord[] = [];
    const given = await options({ run: { signal: stop.signal } });
    await expect(async () => {
      for await (const event of runEval(given)) {
        if (event.type === 'record') seen.push(event.record);
        if (seen.length === 5) stop.abort();
      }
    }).rejects.toMatchObject({ code: 'ERR_ACCEL_ABORTED' });
    const before = (await written()).length;
    expect(before).toBeGreaterThanOrEqual(5);
    jobs = [];
    const rest = await run();
    expect(rest[0]).toMatchObject({ type: 'start', resumed: before });
    expect(jobs).toHaveLength(16 - before);
    expect(await written()).toEqual(await written(join(folder, 'whole')));
    const file = await runFile();
    expect(file.calls.map(({ resumed }) => resumed)).toEqual([0, before]);
    expect(file.calls[0]?.finished).toBeNull();
    expect(file.achieved).toEqual((await runFile(join(folder, 'whole'))).achieved);
  });

  it('runs nothing again, and takes more samples, tasks, modes and methods', async () => {
    await run({ config: { samples: 1, tasks: ['vt'] }, run: { methods: [full] } });
    jobs = [];
    await run({ config: { samples: 1, tasks: ['vt'] }, run: { methods: [full] } });
    expect(jobs).toHaveLength(0);
    await run();
    expect(jobs).toHaveLength(16 - 2);
    jobs = [];
    await run({ config: { modes: ['query-agnostic'], lengths: [1024] } });
    expect(jobs).toHaveLength(8);
    // What an earlier call asked for stays.
    expect(await written()).toHaveLength(24);
    expect(await runFile()).toMatchObject({ modes: ['query-aware', 'query-agnostic'] });
  });

  it('drops a half-written last line and runs that record again', async () => {
    await run();
    const path = join(out, 'records.jsonl');
    const text = await readFile(path, 'utf8');
    await writeFile(path, text.slice(0, -20));
    jobs = [];
    await run();
    expect(jobs).toHaveLength(1);
    expect(await readFile(path, 'utf8')).toBe(text);
  });

  it('keeps a failure as a record and tries it again when continued', async () => {
    const failure = { code: 'ERR_ACCEL_OUT_OF_MEMORY', message: 'no pages left' };
    const events = await run({
      model: {
        onBatch: ([job]) =>
          job?.id === IDS[3] ? Promise.resolve([{ failure }]) : Promise.resolve(undefined),
      },
    });
    expect(recordsOf(events).filter((record) => 'failure' in record)).toHaveLength(1);
    const end = events.at(-1);
    if (end?.type !== 'end') throw new Error('no end event');
    expect(end.summary.records).toEqual({ expected: 16, answered: 15, failed: 1 });
    expect((await written())[3]).toMatchObject({ id: IDS[3], failure });
    await run();
    expect(jobs.map(({ id }) => id)).toEqual([IDS[3]]);
    expect((await written())[3]).toMatchObject({ id: IDS[3], score: 100 });
  });

  it.each([
    ['seed', { config: { seed: 7 } }, /seed was 42 and is now 7/],
    [
      'token limits',
      { config: { tokensToGenerate: 'loom' as const } },
      /tokensToGenerate was "ruler" and is now "loom"/,
    ],
    ['length limit', { run: { maxLength: 900 } }, /maxLength was null and is now 900/],
    ['model', { model: { files: 'other' } }, /modelFiles was "files" and is now "other"/],
    [
      'a method’s options',
      { run: { methods: [{ name: 'half', policy: policy({ keep: 0.25 }) }] } },
      /method half with other options/,
    ],
  ])('refuses a record file of a run with another %s', async (_, change: Change, message) => {
    await run();
    await expect(run(change)).rejects.toThrow(
      expect.objectContaining({
        code: 'ERR_ACCEL_CONFIG',
        message: expect.stringMatching(message) as string,
      }),
    );
  });

  it('names the line that is not a record', async () => {
    await run();
    await appendFile(join(out, 'records.jsonl'), '{"id": 3}\n');
    await expect(run()).rejects.toThrow(/records\.jsonl:18 is not a record: [^]*→ at id/);
  });

  it('lets one process at a time write a run', async () => {
    const first = runEval(await options());
    await first.next();
    await expect(run()).rejects.toMatchObject({ code: 'ERR_ACCEL_BUSY' });
    await first.return();
    expect(recordsOf(await run()).length).toBeGreaterThan(0);
  });

  it.each([
    ['no method', { run: { methods: [] } }, /at least one method/],
    ['two methods of one name', { run: { methods: [full, full] } }, /Two methods are called full/],
    ['no mode', { config: { modes: [] } }, /at least one task, length and mode/],
    [
      'a length beyond the window',
      { config: { lengths: [4096, 8192] } },
      /window of 4096 tokens; leave out the length 8192/,
    ],
    ['no samples', { run: { limit: 0 } }, /The limit is 0/],
    ['a template the model lacks', { config: { template: 'model' as const } }, /no chat template/],
  ])('refuses %s before anything is written', async (_, change: Change, message) => {
    await expect(run(change)).rejects.toThrow(message);
    expect(await readdir(folder)).toEqual([]);
  });

  it('limits the samples, −1 meaning all', async () => {
    expect(recordsOf(await run({ run: { limit: 1 } }))).toHaveLength(8);
    expect(recordsOf(await run({ run: { limit: -1 } }))).toHaveLength(8);
  });

  it('stops what is under way when the engine fails', async () => {
    const onBatch = () => Promise.reject(new Error('engine failed'));
    await expect(run({ model: { onBatch, slots: 2 } })).rejects.toThrow('engine failed');
  });

  it('strict: refuses a policy that never acted in the whole run, and keeps the records', async () => {
    const idle = (job: Job) => ({
      answer: {
        prediction: '',
        promptTokens: 900,
        newTokens: 1,
        finish: 'eos' as const,
        prefillSeconds: 1,
        decodeTokens: 0,
        decodeSeconds: 0,
        receipt: {
          rowsIn: 900,
          rowsStored: 900,
          layerRows: [900],
          kv: { measuredBytes: 1, arithmeticBytes: 1, fullBytes: 1 },
          acted: { 'test.select': job.method === 'half' ? 0 : 1 },
          fallbacks: [],
          kernels: {},
        },
      },
    });
    const change = {
      model: { onBatch: (batch: readonly Job[]) => Promise.resolve(batch.map(idle)) },
      run: { strict: true },
    };
    await expect(run(change)).rejects.toThrow(
      expect.objectContaining({
        code: 'ERR_ACCEL_STRICT',
        message: expect.stringMatching(
          /half: test\.select never acted in the whole run; the longest prompt had 900 tokens/,
        ) as string,
      }),
    );
    expect(await written()).toHaveLength(16);
  });
});
