import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import {
  full,
  loadModel,
  type JsonObject,
  type Model,
  type Policy,
  type Receipt,
} from '@accel/core';
import {
  describeDevices,
  expectClose,
  tinyFamilies,
  writeTinyCheckpoint,
  type TinyCheckpointOptions,
} from '@accel/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { catalogue } from '../src/methods/catalogue.js';
import { resolvePolicy } from '../src/methods/policy.js';

// Every method on every family of models. A cell of the support matrix (docs/support.md) is two runs: with nothing to take
// away a method must give what full attention gives, and with little room it must act (strict mode throws when it does not)
// and go on generating. `ACCEL_SUPPORT_OUT=file` writes the table of the device that ran.

/** Longer than a window and than what `little` leaves. */
const PROMPT = 640;
const WINDOW = 200;

const kinds: Readonly<Record<string, TinyCheckpointOptions>> = {
  ...Object.fromEntries(tinyFamilies.map((family) => [family, { family }])),
  'mistral, window': { family: 'mistral', config: { sliding_window: WINDOW } },
};

const all = { budget: { tokens: 1_000_000 } };
const some = { budget: { tokens: 96 } };

/** Options with which a method leaves everything as it is. */
const plenty: Readonly<Record<string, JsonObject>> = {
  streamingllm: all,
  snapkv: all,
  h2o: all,
  l2compress: all,
  pyramidkv: all,
  cakekv: all,
  cam: { gate: 'never', streamingllm: all },
  think: { recent: 4096 },
  kivi: { residual: 4096 },
  flexprefill: { gamma: 0.9999999, minBudget: 512 },
  xattention: { dense: 0, threshold: 1 },
};

/** Options with which it has to act on a prompt of this length. */
const little: Readonly<Record<string, JsonObject>> = {
  streamingllm: some,
  snapkv: some,
  h2o: some,
  l2compress: some,
  pyramidkv: some,
  cakekv: some,
  cam: { gate: 'always', streamingllm: some },
  think: { recent: 32 },
  kivi: { residual: 32 },
  flexprefill: { minBudget: 128 },
  xattention: { dense: 0 },
};

/** Layers with a window attend to few rows as they are: there is nothing to choose, and the receipt says so. */
const sparse = ['FlexPrefill', 'XAttention'];

const cells = new Map<string, string>();

describeDevices('families', (device) => {
  describe.each(Object.entries(kinds))('%s', (kind, options) => {
    let model: Model;
    let want: Float32Array;
    const prompt = Int32Array.from({ length: PROMPT }, (_, i) => (i * 7919 + (i >> 3) * 31) % 256);

    /** A prompt and some tokens after it. */
    async function run(
      policy: Policy,
      strict = true,
    ): Promise<{ logits: Float32Array; receipt: Receipt }> {
      using sequence = model.sequence({ policy, strict });
      await sequence.append(prompt);
      for (const token of [17, 200, 3, 99]) await sequence.append([token]);
      const logits = await sequence.logits();
      let drawn = 0;
      for await (const { id } of sequence.generate({ maxTokens: 24, ignoreEos: true })) {
        expect(id).toBeLessThan(model.spec.vocabSize);
        drawn += 1;
      }
      expect(drawn).toBe(24);
      return { logits, receipt: sequence.receipt() };
    }

    beforeAll(async () => {
      using checkpoint = writeTinyCheckpoint({
        layers: 3,
        headDim: 64,
        hiddenSize: 64,
        ...options,
      });
      model = await loadModel(checkpoint.path, {
        device,
        // What GPUs are used with, and what their fast kernels are for.
        dtype: device === 'cpu' ? 'float32' : 'bfloat16',
        kvBytes: 64 << 20,
      });
      want = (await run(full)).logits;
    });
    afterAll(() => model.dispose());

    it.each(catalogue.map(({ id, title }) => [title, id] as const))('%s', async (title, id) => {
      const configs = (options: Readonly<Record<string, JsonObject>>) =>
        new Map([[id, options[id] ?? {}]]);
      const tolerance = device === 'cpu' ? { abs: 2e-4, rel: 1e-4 } : { abs: 0.25, rel: 0.05 };
      const windowed = model.spec.slidingWindow !== undefined;
      if (windowed && sparse.includes(title)) {
        const { logits, receipt } = await run(
          (await resolvePolicy(id, configs(little))).policy,
          false,
        );
        expectClose(logits, want, tolerance, `${title} in a window`);
        expect(Object.keys(receipt.prefill?.dense ?? {})).toContain(
          'the layer has a sliding window',
        );
        cells.set(`${title} ${kind}`, 'dense');
        return;
      }
      const same = await run((await resolvePolicy(id, configs(plenty))).policy);
      expectClose(same.logits, want, tolerance, `${title} with room for everything`);

      const { logits, receipt } = await run((await resolvePolicy(id, configs(little))).policy);
      expect(logits.every(Number.isFinite)).toBe(true);
      for (const part of receipt.parts) expect(part.acted, part.id).toBeGreaterThan(0);
      cells.set(`${title} ${kind}`, '✓');
    });
  });

  it('the support matrix of the documentation is what ran', () => {
    const table = render();
    const out = process.env['ACCEL_SUPPORT_OUT'];
    if (out !== undefined) writeFileSync(out, table);
    const page = readFileSync(
      fileURLToPath(new URL('../../../docs/support.md', import.meta.url)),
      'utf8',
    );
    const title = device === 'cpu' ? '## CPU' : '## CUDA';
    const section = page.slice(page.indexOf(title)).split(/\n(?=## )/)[0] ?? '';
    expect(section).toContain(table);
  });
});

/** The cells as a table in Markdown, formatted as Prettier does. */
function render(): string {
  const head = ['method', ...Object.keys(kinds)];
  const rows = catalogue.map(({ title }) => [
    title,
    ...Object.keys(kinds).map((kind) => cells.get(`${title} ${kind}`) ?? ' '),
  ]);
  const widths = head.map((name, i) =>
    Math.max(name.length, 3, ...rows.map((row) => row[i]?.length ?? 0)),
  );
  const line = (row: readonly string[]): string =>
    `| ${row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join(' | ')} |\n`;
  return [line(head), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line)].join('');
}
