import { appendFile, mkdtemp, readdir, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Policy } from '@accel/core';
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { loadSources } from '../ruler/sources.js';
import type { RulerSources } from '../ruler/types.js';
import { fakeModel } from '../testing/fake-model.js';
import { formatCsv, formatTable } from './report.js';
import { runEval } from './run-eval.js';
import type { EvalEvent, EvalOptions, EvalRecord } from './types.js';

const policy = (options: Record<string, unknown>): Policy =>
  ({
    parts: [{ id: 'test', slot: 'select', needs: [], provides: [], lossy: true, options }],
  }) as unknown as Policy;
const full = { name: 'full', policy: { parts: [] } as unknown as Policy };
const half = { name: 'half', policy: policy({ keep: 0.5 }) };

let sources: RulerSources;
let folder: string;
let runs: number;

beforeAll(async () => {
  sources = await loadSources();
});
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'accel-eval-'));
  await writeFile(join(folder, 'config.json'), '{"model_type":"fake"}');
  runs = 0;
});

function options(extra: Partial<EvalOptions> = {}): EvalOptions {
  const { model } = fakeModel({
    path: folder,
    // The first magic number of the text: right for single needles.
    answer: (prompt) => ` ${/is: (\d{7})\./.exec(prompt)?.[1] ?? 'nothing'}.`,
    onAppend: () => runs++,
  });
  return {
    model,
    sources,
    methods: [full, half],
    tasks: ['niah_single_1', 'vt'],
    lengths: [1024, 2048],
    samples: 2,
    output: join(folder, 'out'),
    ...extra,
  };
}

async function collect(given: EvalOptions): Promise<EvalEvent[]> {
  const events: EvalEvent[] = [];
  for await (const event of runEval(given)) events.push(event);
  return events;
}

const recordsOf = (events: readonly EvalEvent[]): EvalRecord[] =>
  events.flatMap((event) => (event.type === 'record' ? [event.record] : []));
const withoutSeconds = (events: readonly EvalEvent[]): unknown => {
  const end = events.at(-1);
  return end?.type === 'end' ? { ...end.summary, seconds: 0 } : undefined;
};

describe('runEval', () => {
  it('runs lengths, tasks, samples, methods in that order and scores them', async () => {
    const events = await collect(options());
    const records = recordsOf(events);
    expect(records.map((record) => record.id)).toEqual(
      [1024, 2048].flatMap((length) =>
        ['niah_single_1', 'vt'].flatMap((task) =>
          [0, 1].flatMap((i) =>
            ['full', 'half'].map((method) => `${task}_${length}/${i}/${method}`),
          ),
        ),
      ),
    );
    expect(records.every((record) => record.score === (record.task === 'vt' ? 0 : 100))).toBe(true);
    expect(records[0]?.receipt).toMatchObject({ rowsStored: 15, rowsIn: records[0]?.promptTokens });
    expect(records[0]?.promptTokens).toBeLessThanOrEqual(1024);
    expect(events[0]).toMatchObject({
      type: 'start',
      resumed: 0,
      progress: { done: 0, total: 16 },
    });
    const last = events.filter((event) => event.type === 'record').at(-1);
    expect(last).toMatchObject({ progress: { done: 16, total: 16 } });
  });

  it('writes records, summary.json and summary.csv, and leaves nothing else', async () => {
    const events = await collect(options());
    const out = join(folder, 'out');
    expect((await readdir(out)).sort()).toEqual(['records.jsonl', 'summary.csv', 'summary.json']);
    const lines = (await readFile(join(out, 'records.jsonl'), 'utf8')).trimEnd().split('\n');
    expect(lines.slice(1).map((line) => JSON.parse(line) as EvalRecord)).toEqual(recordsOf(events));
    const end = events.at(-1);
    if (end?.type !== 'end') throw new Error('no end event');
    expect(JSON.parse(await readFile(join(out, 'summary.json'), 'utf8'))).toEqual(end.summary);
    expect(await readFile(join(out, 'summary.csv'), 'utf8')).toBe(
      'Method,Tasks,niah_single_1_1024,vt_1024,niah_single_1_2048,vt_2048\n' +
        'full,Score,100,0,100,0\nfull,Nulls,0/2,0/2,0/2,0/2\nhalf,Score,100,0,100,0\nhalf,Nulls,0/2,0/2,0/2,0/2\n',
    );
    expect(formatCsv(end.summary)).toContain('full,Score');
    expect(formatTable(end.summary).split('\n')[2]).toMatch(
      /^full\s+1024\s+50\.0 ± 28\.9\s+15 \/ \d+\s+4\.0 KiB\s+2\.00\s+-$/,
    );
    expect(formatTable(end.summary, { byTask: true }).split('\n')).toHaveLength(2 + 8);
  });

  it('continues where it was stopped, with the same result as in one go', async () => {
    const whole = await collect(options({ output: join(folder, 'whole') }));
    const stop = new AbortController();
    const seen: EvalEvent[] = [];
    await expect(async () => {
      for await (const event of runEval(options({ signal: stop.signal }))) {
        seen.push(event);
        if (recordsOf(seen).length === 5) stop.abort();
      }
    }).rejects.toMatchObject({ code: 'ERR_ACCEL_ABORTED' });
    runs = 0;
    const rest = await collect(options());
    expect(rest[0]).toMatchObject({ type: 'start', resumed: recordsOf(seen).length });
    expect(runs).toBe(16 - recordsOf(seen).length);
    expect([...recordsOf(seen), ...recordsOf(rest)]).toEqual(recordsOf(whole));
    expect(withoutSeconds(rest)).toEqual(withoutSeconds(whole));
  });

  it('runs nothing again, and takes more samples, tasks and methods', async () => {
    await collect(options({ methods: [full], samples: 1, tasks: ['vt'] }));
    runs = 0;
    await collect(options({ methods: [full], samples: 1, tasks: ['vt'] }));
    expect(runs).toBe(0);
    await collect(options());
    expect(runs).toBe(16 - 2);
  });

  it('drops a half-written last line and runs that record again', async () => {
    await collect(options());
    const path = join(folder, 'out', 'records.jsonl');
    const text = await readFile(path, 'utf8');
    await writeFile(path, text.slice(0, -20));
    runs = 0;
    await collect(options());
    expect(runs).toBe(1);
    expect(await readFile(path, 'utf8')).toBe(text);
  });

  it.each([
    ['seed', { seed: 7 }, /seed was 42 and is now 7/],
    [
      'token limits',
      { tokensToGenerate: 'loom' as const },
      /tokensToGenerate was "ruler" and is now "loom"/,
    ],
    [
      'a method’s options',
      { methods: [{ name: 'half', policy: policy({ keep: 0.25 }) }] },
      /method half with other options/,
    ],
  ])('refuses a record file of a run with another %s', async (_, extra, message) => {
    await collect(options());
    await expect(collect(options(extra))).rejects.toThrow(
      expect.objectContaining({
        code: 'ERR_ACCEL_CONFIG',
        message: expect.stringMatching(message) as string,
      }),
    );
  });

  it('refuses another model’s record file', async () => {
    await collect(options());
    await writeFile(join(folder, 'config.json'), '{"model_type":"other"}');
    await expect(collect(options())).rejects.toThrow(/modelFiles was/);
  });

  it('names the line that is not a record', async () => {
    await collect(options());
    await appendFile(join(folder, 'out', 'records.jsonl'), '{"id": 3}\n');
    await expect(collect(options())).rejects.toThrow(/records\.jsonl:18 is not a record/);
  });

  it.each([
    ['no method', { methods: [] }, /at least one method/],
    ['two methods of one name', { methods: [full, full] }, /Two methods are called full/],
    ['no task', { tasks: [] }, /at least one task/],
    ['an unknown task', { tasks: ['niah'] }, /no RULER task niah/],
    [
      'a length beyond the window',
      { lengths: [4096, 8192] },
      /window of 4096 tokens; leave out the length 8192/,
    ],
    ['no samples', { limit: 0 }, /The limit is 0/],
    ['a template the model lacks', { template: 'model' as const }, /no chat template/],
  ])('refuses %s before anything is written', async (_, extra, message) => {
    await expect(collect(options(extra))).rejects.toThrow(message);
    expect(await readdir(folder)).toEqual(['config.json']);
  });

  it('limits the samples, −1 meaning all', async () => {
    expect(recordsOf(await collect(options({ limit: 1, output: join(folder, 'a') })))).toHaveLength(
      8,
    );
    expect(
      recordsOf(await collect(options({ limit: -1, output: join(folder, 'b') }))),
    ).toHaveLength(16);
  });

  it('releases sequences when the caller leaves early or the engine fails', async () => {
    const { model, live } = fakeModel({
      path: folder,
      answer: () => {
        throw new Error('engine failed');
      },
    });
    await expect(collect(options({ model }))).rejects.toThrow('engine failed');
    expect(live()).toBe(0);
    for await (const event of runEval(options({ model }))) if (event.type === 'prefilled') break;
    expect(live()).toBe(0);
  });

  it('puts the answer prefix after the assistant header', async () => {
    const prompts: string[] = [];
    const { model } = fakeModel({
      path: folder,
      hasChatTemplate: true,
      answer: (prompt) => {
        prompts.push(prompt);
        return 'x';
      },
    });
    await collect(options({ model, methods: [full], samples: 1, noTemplateTasks: ['vt'] }));
    expect(prompts[0]).toMatch(
      /^<s><user>A special magic number[^]*provided text\?<assistant> The special magic number for \S+ mentioned in the provided text is$/,
    );
    expect(prompts[1]).toMatch(/^<s>Memorize and track[^]*they are: $/);
  });
});
