import { summarise, type EvalRecord, type EvalSummary, type RunFile } from '@accel/eval';
import { describe, expect, it } from 'vitest';
import { explain, planDemo } from '../src/demo.js';

/** A record of a method at a length, with made-up times. */
function record(method: string, length: number, prefillSeconds: number, score = 100): EvalRecord {
  const rows = method === 'full' ? length : 512;
  const bytes = rows * 4096;
  return {
    id: `t_${length}/0/query-aware/${method}`,
    task: 't',
    length,
    sample: 0,
    mode: 'query-aware',
    method,
    policy: '',
    promptTokens: length,
    newTokens: 11,
    prediction: 'x',
    references: ['x'],
    finish: 'eos',
    score,
    prefillSeconds,
    decodeSeconds: 0.1,
    decodeTokens: 10,
    receipt: {
      rowsIn: length,
      rowsStored: rows,
      layerRows: [rows],
      kv: { measuredBytes: bytes, arithmeticBytes: bytes, fullBytes: length * 4096 },
      acted: {},
      fallbacks: [],
      kernels: {},
    },
  };
}

function summary(records: EvalRecord[], seconds: number): EvalSummary {
  const unique = <T>(items: T[]): T[] => [...new Set(items)];
  const run = {
    settings: { benchmark: 'RULER', model: 'needle-7m' },
    methods: unique(records.map(({ method }) => method)).map((name) => ({ name })),
    modes: ['query-aware'],
    tasks: unique(records.map(({ length }) => length)).map((length) => ({
      id: `t_${length ?? 0}`,
      name: 't',
      length,
      metric: { name: 'string_match_all' },
      samples: 1,
    })),
    calls: [{ seconds }],
  } as unknown as RunFile;
  return summarise(run, records);
}

/** One round at 4K: three methods, prefill times given, everything else a tenth of them. */
const round = (prefill: number) =>
  summary(
    ['full', 'StreamingLLM', 'SnapKV'].map((method) => record(method, 4096, prefill)),
    3.3 * prefill,
  );

describe('the plan of the demo', () => {
  it('runs 8K on a fast machine, with more samples', () => {
    expect(planDemo(round(1))).toMatchObject({ lengths: [4096, 8192], samples: 8 });
  });

  it('takes fewer samples where reading is slower', () => {
    // A round: 13.2 s at 4K, 3.4 × 12 + 2 × 1.2 s at 8K; twice both is 113 s of the planned 153.
    const { lengths, samples, reason } = planDemo(round(4));
    expect(lengths).toEqual([4096, 8192]);
    expect(samples).toBe(2);
    expect(reason).toContain('8K fits the limit of 3 minutes too, with 2 samples');
  });

  it('leaves 8K out where not even one sample of it would fit, and says how to get it', () => {
    const { lengths, samples, reason } = planDemo(round(12));
    expect(lengths).toEqual([4096]);
    expect(samples).toBe(3);
    expect(reason).toMatch(/8K would not fit.*accel eval --lengths 8k/);
  });

  it('never plans more than the limit where it has a choice', () => {
    for (const prefill of [0.1, 1, 3, 6, 12, 20, 60]) {
      const first = round(prefill);
      const { lengths, samples } = planDemo(first);
      const both = lengths.length > 1;
      expect(samples).toBeGreaterThanOrEqual(1);
      if (!both && samples === 1) continue;
      // Even if the time of 8K were attention alone.
      const worst = samples * (first.seconds + (both ? 4 * first.seconds : 0));
      expect(worst, `${prefill} s`).toBeLessThan(180 * 1.2);
    }
  });
});

describe('the explanation', () => {
  const text = explain(
    summary(
      [
        record('full', 4096, 1, 95),
        record('StreamingLLM', 4096, 1, 20),
        record('SnapKV', 4096, 1, 80),
        record('full', 8192, 4, 90),
        record('StreamingLLM', 8192, 4, 10),
        record('SnapKV', 8192, 4, 70),
      ],
      60,
    ),
  );

  it('quotes the longest length of the table, not numbers of its own', () => {
    expect(text).toContain('At 8K, full attention scores 90 with 32.0 MiB of cache.');
    expect(text).toContain(': 10 with a cache 16.0 times smaller');
    expect(text).toContain(': 70 with a cache 16.0 times smaller');
  });

  it('says what the numbers do not show', () => {
    expect(text).toContain('standard error');
    expect(text).toContain('made for this test');
  });

  it('fits 120 columns', () => {
    for (const line of text.split('\n')) expect(line.length, line).toBeLessThanOrEqual(120);
  });
});
