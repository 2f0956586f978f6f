import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openBenchmark } from '../benchmark/open.js';
import { spreadStarts } from '../benchmark/text-windows.js';
import type { Benchmark, EvalTask, TextSample } from '../benchmark/types.js';
import { nllConfig } from '../config/defaults.js';
import { TokenMeter } from '../prompt/meter.js';
import { wordTokenizer } from '../testing/fake-model.js';

let folder: string;
const WORDS = 5000;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'accel-nll-'));
  const text = Array.from({ length: WORDS }, (_, i) => `w${i}`).join(' ');
  await writeFile(join(folder, 'text.txt'), text);
  await writeFile(join(folder, 'text.gz'), gzipSync(text));
  await writeFile(join(folder, 'empty.txt'), ' \n');
});

afterAll(() => rm(folder, { recursive: true, force: true }));

const meter = new TokenMeter(wordTokenizer(), (text) => text);

function take(benchmark: Benchmark, task: EvalTask | undefined, count: number): TextSample[] {
  if (task === undefined) throw new Error('There should be a task.');
  const samples: TextSample[] = [];
  for (const steps = benchmark.samples(task, meter); samples.length < count;) {
    const { value } = steps.next();
    if (value?.kind === 'text') samples.push(value);
  }
  return samples;
}

describe('NLL', () => {
  it('predicts the end of windows of a text', async () => {
    const benchmark = await openBenchmark(
      nllConfig({ lengths: [300, 600], targetTokens: 100, textPath: join(folder, 'text.txt') }),
    );
    expect(
      benchmark.tasks.map(({ id, length, maxNewTokens }) => [id, length, maxNewTokens]),
    ).toEqual([
      ['nll_300', 300, 0],
      ['nll_600', 600, 0],
    ]);
    expect(benchmark.tasks[0]?.metric).toEqual({ name: 'nll', better: 'lower', unit: 'nats' });
    for (const { context, target, facts } of take(benchmark, benchmark.tasks[0], 20)) {
      expect([context.length, target.length]).toEqual([200, 100]);
      const start = Number(facts?.['start']);
      expect(
        meter
          .decode([...context, ...target])
          .trim()
          .split(' '),
      ).toEqual(Array.from({ length: 300 }, (_, i) => `w${start + i}`));
    }
  });

  it('unpacks .gz, reads Moby-Dick by default, and refuses what has no text', async () => {
    const of = async (name?: string): Promise<Benchmark> =>
      openBenchmark(nllConfig(name === undefined ? {} : { textPath: join(folder, name) }));
    expect((await of('text.gz')).fingerprint).toBe((await of('text.txt')).fingerprint);
    const [first] = take(await of(), (await of()).tasks[0], 1);
    expect(first?.target).toHaveLength(256);
    await expect(of('empty.txt')).rejects.toMatchObject({ code: 'ERR_ACCEL_FILE' });
    await expect(of('none.txt')).rejects.toMatchObject({ code: 'ERR_ACCEL_FILE' });
  });

  it('says when a text is too short', async () => {
    const benchmark = await openBenchmark(
      nllConfig({ lengths: [WORDS + 1], textPath: join(folder, 'text.txt') }),
    );
    expect(() => take(benchmark, benchmark.tasks[0], 1)).toThrow(
      /nll_5001 does not fit: the text has 5000 tokens/,
    );
    expect(() => benchmark.score(benchmark.tasks[0] as EvalTask, '', {} as never)).toThrow(
      /no answer to score/,
    );
  });
});

describe('spreadStarts', () => {
  it('spreads any number of windows evenly', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 2_000_000 }),
        fc.integer({ min: 0, max: 0xffffffff }),
        fc.integer({ min: 1, max: 60 }),
        (places, seed, count) => {
          const startOf = spreadStarts(places, seed);
          const starts = Array.from({ length: count }, (_, i) => startOf(i)).sort((a, b) => a - b);
          const gaps = starts.map((start, i) => start - (starts[i - 1] ?? 0));
          gaps.push(places - 1 - (starts.at(-1) ?? 0));
          expect(starts.every((start) => start >= 0 && start < places)).toBe(true);
          // Random places would leave gaps of several times the mean.
          expect(Math.max(...gaps)).toBeLessThanOrEqual((3 * places) / count + 1);
        },
      ),
      { numRuns: 100 },
    );
  });
});
