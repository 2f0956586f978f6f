import { full, loadModel, type Model } from '@accel/core';
import { needlePath } from '@accel/needle';
import { describeDevices } from '@accel/testkit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { openBenchmark } from '../benchmark/open.js';
import { nllConfig, rulerConfig } from '../config/defaults.js';
import { MODES } from '../prompt/modes.js';
import { runEval } from '../runner/run-eval.js';
import { isFailed, type EvalRecord } from '../runner/records.js';
import type { EvalOptions } from '../runner/types.js';
import type { EvalSummary } from '../report/summary.js';

describeDevices('answers of the embedded model', (device) => {
  let model: Model;
  beforeAll(async () => {
    model = await loadModel(needlePath, { device });
  });
  afterAll(() => {
    model.dispose();
  });

  async function evaluate(
    options: Pick<EvalOptions, 'config'> & { batchSize?: number },
  ): Promise<{ records: EvalRecord[]; summary: EvalSummary }> {
    const records: EvalRecord[] = [];
    const benchmark = await openBenchmark(options.config);
    const methods = [{ name: 'full', policy: full }];
    for await (const event of runEval({ model, methods, benchmark, strict: true, ...options })) {
      if (event.type === 'record' && !isFailed(event.record)) records.push(event.record);
      if (event.type === 'end') return { records, summary: event.summary };
    }
    throw new Error('no end event');
  }

  it('finds single needles with the whole cache, whenever the question comes', async () => {
    const config = rulerConfig({
      tasks: ['niah_single_1', 'niah_single_2'],
      lengths: [2048],
      samples: 2,
      modes: MODES,
    });
    const { records, summary } = await evaluate({ config });
    const scores = records.map(({ task, mode, score }) => `${task} ${mode} ${score}`);
    for (const mode of MODES) {
      expect(scores.filter((score) => score === `niah_single_1 ${mode} 100`)).toHaveLength(2);
    }
    const [aware] = records.filter(({ mode }) => mode === 'query-aware');
    const [agnostic] = records.filter(({ mode }) => mode === 'query-agnostic');
    // The same ids in two turns: nothing but the moment of compression differs.
    expect(agnostic?.promptTokens).toBe(aware?.promptTokens);
    expect(agnostic?.prediction).toBe(aware?.prediction);
    expect(agnostic?.receipt?.rowsIn).toBeLessThan(aware?.receipt?.rowsIn ?? 0);
    const [average] = summary.averages;
    expect(average?.rowsStored).toBe(average?.promptTokens);
    const { measuredBytes = 0, arithmeticBytes = 1 } = average?.kv ?? {};
    expect(measuredBytes / arithmeticBytes).toBeCloseTo(1, 1);
    expect(average?.prefillSeconds).toBeGreaterThan(0);
    expect(average?.decodeTokensPerSecond).toBeGreaterThan(0);
  });

  it('answers in a batch what it answers one by one', async () => {
    const config = rulerConfig({
      tasks: ['niah_multikey_2', 'vt'],
      lengths: [1024],
      samples: 4,
      workedExample: false,
    });
    const [one, four] = [await evaluate({ config }), await evaluate({ config, batchSize: 4 })];
    const predictions = ({ records }: typeof one) =>
      Object.fromEntries(records.map(({ id, prediction }) => [id, prediction]));
    expect(predictions(four)).toEqual(predictions(one));
  });

  it('measures the likelihood of a text', async () => {
    const config = nllConfig({ lengths: [512], samples: 2, targetTokens: 32 });
    const { records } = await evaluate({ config, batchSize: 2 });
    for (const { score, nll, newTokens } of records) {
      expect(newTokens).toBe(32);
      expect(score).toBeCloseTo((nll ?? 0) / 32);
      // Better than guessing among 4096 tokens.
      expect(score).toBeLessThan(Math.log(4096));
      expect(score).toBeGreaterThan(0);
    }
  });

  it('makes smaller batches where memory does not suffice, and a failure of what does not fit alone', async () => {
    using small = await loadModel(needlePath, { device, kvBytes: 6 << 20 });
    const config = rulerConfig({ tasks: ['niah_single_1'], lengths: [1024, 4096], samples: 2 });
    const outcomes: string[] = [];
    const methods = [{ name: 'full', policy: full }];
    const benchmark = await openBenchmark(config);
    for await (const event of runEval({ model: small, config, methods, benchmark, batchSize: 2 })) {
      if (event.type !== 'record') continue;
      const { record } = event;
      outcomes.push(isFailed(record) ? record.failure.code : String(record.score));
    }
    expect(outcomes).toEqual(['100', '100', 'ERR_ACCEL_OUT_OF_MEMORY', 'ERR_ACCEL_OUT_OF_MEMORY']);
  });
});
