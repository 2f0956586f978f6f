import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Receipt } from '@accel/core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { accel } from './fake-io.js';

// Every method and every composition that makes sense, end to end on the embedded model, with a cache small enough that
// each part has to act: --strict turns one that did not into an error.

const alone = [
  'StreamingLLM',
  'SnapKV',
  'H2O',
  'L2Compress',
  'PyramidKV',
  'CakeKV',
  'CaM',
  'ThinK',
  'KIVI',
  'FlexPrefill',
  'XAttention',
];
const composed = [
  'SnapKV+PyramidKV',
  'H2O+PyramidKV',
  'L2Compress+PyramidKV',
  'SnapKV+CakeKV',
  'H2O+CakeKV',
  'H2O+CaM',
  'StreamingLLM+CaM',
  'CakeKV+CaM',
  'H2O+PyramidKV+CaM',
  'SnapKV+KIVI',
  'PyramidKV+ThinK',
  'ThinK+KIVI',
  'SnapKV+ThinK+KIVI',
  'L2Compress+KIVI',
  'XAttention+SnapKV',
  'XAttention+CakeKV',
  'XAttention+StreamingLLM',
  'XAttention+H2O',
  'XAttention+KIVI',
  'FlexPrefill+PyramidKV',
  'FlexPrefill+L2Compress',
  'FlexPrefill+H2O+CaM',
  'FlexPrefill+ThinK',
  'FlexPrefill+SnapKV+ThinK+KIVI',
];
/** These leave the cache as it is. */
const sparse = ['FlexPrefill', 'XAttention'];

const BUDGET = 'budget: { tokens: 96 }\n';
const OPTIONS: Readonly<Record<string, string>> = {
  streamingllm: BUDGET,
  snapkv: BUDGET,
  h2o: `${BUDGET}approximateSignal: true
`,
  l2compress: BUDGET,
  pyramidkv: BUDGET,
  cakekv: BUDGET,
  kivi: 'residual: 32\n',
  think: 'recent: 32\n',
  flexprefill: 'minBudget: 128\n',
  xattention: 'dense: 0\n',
  cam: `gate: always\napproximateSignal: true\nstreamingllm: { ${BUDGET.trim()} }\n`,
};

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'accel-cli-compositions-'));
  for (const [id, text] of Object.entries(OPTIONS)) {
    await writeFile(join(folder, `${id}.yaml`), text);
  }
});
afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

/** `--config` for the methods of these names. */
function configs(names: readonly string[]): string[] {
  const ids = new Set(names.flatMap((name) => name.toLowerCase().split('+')));
  return [...ids].flatMap((id) => ['--config', `${id}=${join(folder, `${id}.yaml`)}`]);
}

describe('accel eval', () => {
  it('runs every method and composition under its name', async () => {
    const names = [...alone, ...composed];
    const { exitCode, stdout, stderr } = await accel([
      ...['eval', '--tasks', 'niah_single_1', '--lengths', '512', '--limit', '1', '--strict'],
      '--no-report',
      ...['--acceleration', ['full', ...names].join(','), ...configs(names)],
      ...['--output-dir', folder, '--save-tag', 'all'],
    ]);
    expect(exitCode, stderr).toBe(0);
    const shown = stdout.split('\n').map((line) => line.split(/ {2,}/)[0]);
    for (const name of names) expect(shown).toContain(name);
    const summary = JSON.parse(await readFile(join(folder, 'all', 'summary.json'), 'utf8')) as {
      averages: { method: string; n: number; score: number }[];
    };
    expect(summary.averages.map(({ method }) => method)).toEqual(['full', ...names]);
    expect(summary.averages.every(({ n }) => n === 1)).toBe(true);
    expect(summary.averages[0]?.score).toBe(100);
  });
});

describe('accel generate', () => {
  const prompt =
    'One of the special magic numbers for quiet-harbor is: 4819205.\n' +
    'The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n'.repeat(
      20,
    ) +
    'The special magic number for quiet-harbor mentioned in the provided text is';

  it.each([...alone, ...composed])('%s: every part acts', async (name) => {
    const { exitCode, stdout, stderr } = await accel(
      [
        ...['generate', '--acceleration', name, ...configs([name])],
        ...['--max-tokens', '12', '--strict', '--json'],
      ],
      { stdin: prompt },
    );
    expect(exitCode, stderr).toBe(0);
    const { receipt, promptTokens } = JSON.parse(stdout) as {
      receipt: Receipt;
      promptTokens: number;
    };
    expect(promptTokens).toBeGreaterThan(300);
    const ids = receipt.parts.map(({ id }) => id);
    for (const id of name.toLowerCase().split('+')) expect(ids).toContain(id);
    for (const part of receipt.parts) {
      expect(part.acted, `${part.id} ${part.slot}`).toBeGreaterThan(0);
    }
    if (!sparse.includes(name)) expect(receipt.kv.measuredBytes).toBeLessThan(receipt.kv.fullBytes);
    const chooses = sparse.some((id) => name.includes(id));
    expect(receipt.prefill !== undefined, 'says what it computed').toBe(chooses);
    for (const density of receipt.prefill?.layers.flatMap((layer) => layer.density) ?? []) {
      expect(density).toBeGreaterThan(0);
      expect(density).toBeLessThanOrEqual(1);
    }
  });
});
