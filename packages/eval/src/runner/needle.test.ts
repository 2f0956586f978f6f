import { full, loadModel } from '@accel/core';
import { needlePath } from '@accel/needle';
import { describe, expect, it } from 'vitest';
import { runEval } from './run-eval.js';
import type { EvalSummary } from './summary.js';

describe('the embedded model', () => {
  it('finds single needles with the whole cache, and every number in the summary is measured', async () => {
    using model = await loadModel(needlePath);
    let summary: EvalSummary | undefined;
    const run = runEval({
      model,
      methods: [{ name: 'full', policy: full }],
      tasks: ['niah_single_1', 'niah_single_2'],
      lengths: [2048],
      samples: 2,
      workedExample: false,
      strict: true,
    });
    for await (const event of run) if (event.type === 'end') ({ summary } = event);
    expect(summary?.cells.map((cell) => [cell.task, cell.score])).toEqual([
      ['niah_single_1', 100],
      ['niah_single_2', 100],
    ]);
    const [average] = summary?.averages ?? [];
    expect(average?.rowsStored).toBe(average?.promptTokens);
    expect(average?.rowsIn).toBe(average?.promptTokens);
    expect(average?.kvArithmeticBytes).toBe(average?.kvFullBytes);
    expect((average?.kvMeasuredBytes ?? 0) / (average?.kvArithmeticBytes ?? 1)).toBeCloseTo(1, 1);
    expect(average?.prefillSeconds).toBeGreaterThan(0);
    expect(average?.decodeTokensPerSecond).toBeGreaterThan(0);
  });
});
