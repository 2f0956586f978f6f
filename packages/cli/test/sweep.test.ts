import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { JsonObject } from '@accel/core';
import { describe, expect, it } from 'vitest';
import { parseConfigs, readPolicyFile, resolvePolicies } from '../src/methods/policy.js';
import { parseBudgets, parseSweeps } from '../src/methods/sweep.js';

const none = new Map<string, string>();

async function resolve(
  spec: string,
  budgets: string[],
  sweeps: string[] = [],
  configs = parseConfigs([]),
): Promise<{ name: string; options: Record<string, JsonObject> }[]> {
  const sweep = { budgets: parseBudgets(budgets), options: parseSweeps(sweeps) };
  const policies = await resolvePolicies([spec], configs, sweep);
  return policies.map(({ name, policy }) => ({
    name,
    options: Object.fromEntries(
      policy.parts.map(({ id, slot, options }) => [`${id}.${slot}`, options]),
    ),
  }));
}

describe('sweeps', () => {
  it.each(['CakeKV', 'H2O', 'L2Compress', 'PyramidKV', 'SnapKV', 'StreamingLLM', 'ThinK', 'CaM'])(
    'gives %s other budgets, also on the seed toolkit’s config',
    async (method) => {
      for (const preset of ['paper', 'loom']) {
        const configs = parseConfigs([`${method}=${preset}`]);
        const made = await resolve(method, ['300', '25%'], [], configs);
        expect(made.map(({ name }) => name)).toEqual([`${method}@300`, `${method}@25%`]);
        expect(JSON.stringify(made[0]?.options)).toMatch(/"budget":\{"tokens":300\}|"recent":\d+/);
        expect(made[0]?.options).not.toEqual(made[1]?.options);
      }
    },
  );

  it('leaves methods without a budget as they are', async () => {
    expect((await resolve('full,KIVI', ['300', '400'])).map(({ name }) => name)).toEqual([
      'full',
      'KIVI',
    ]);
  });

  it('gives joined methods one budget, and every combination with other options', async () => {
    const made = await resolve(
      'SnapKV+KIVI',
      ['300', '400'],
      ['kivi.bits=2,4', 'snapkv.pool.size=15'],
    );
    expect(made.map(({ name }) => name)).toEqual([
      'SnapKV+KIVI@300[pool.size=15][bits=2]',
      'SnapKV+KIVI@300[pool.size=15][bits=4]',
      'SnapKV+KIVI@400[pool.size=15][bits=2]',
      'SnapKV+KIVI@400[pool.size=15][bits=4]',
    ]);
    expect(made[3]?.options).toMatchObject({
      'snapkv.select': { budget: { tokens: 400 }, pool: { kind: 'max', size: 15 } },
      'kivi.codec': { bits: 4 },
    });
    expect(await resolve('H2O+CaM', ['300'])).toMatchObject([
      { name: 'H2O+CaM@300', options: { 'h2o.select': { budget: { tokens: 300 } } } },
    ]);
  });

  it.each([
    [() => parseBudgets(['0']), /"0" is not a budget/],
    [() => parseBudgets(['150%']), /"150%" is not a budget/],
    [() => parseSweeps(['kivi=2']), /METHOD\.OPTION=VALUE,VALUE/],
    [() => parseSweeps(['kiwi.bits=2']), /KIVI/],
  ])('refuses what it cannot read', (parse, message) => {
    expect(parse).toThrow(message);
  });

  it('refuses a sweep of a method that is not used', async () => {
    await expect(resolve('SnapKV', [], ['kivi.bits=2'])).rejects.toThrow(
      /--sweep names KIVI, which --acceleration does not use/,
    );
  });
});

describe('policy files', () => {
  it('are called by their name, and say which option is wrong', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'accel-policy-'));
    const file = join(folder, 'mine.json');
    await writeFile(file, '{"parts": ["snapkv", {"id": "kivi", "options": {"bits": 2}}]}');
    const { name, policy } = await readPolicyFile(file);
    expect(name).toBe('mine');
    expect(policy.parts.map(({ id }) => id).sort()).toEqual(['kivi', 'snapkv']);
    await writeFile(file, '{"parts": [{"id": "kivi", "options": {"bits": 3}}]}');
    await expect(readPolicyFile(file)).rejects.toThrow(/mine\.json: .*bits/);
    await writeFile(file, '{"parts": [');
    await expect(readPolicyFile(file)).rejects.toThrow(/is not JSON/);
    await expect(resolvePolicies(['full'], none)).resolves.toHaveLength(1);
  });
});
