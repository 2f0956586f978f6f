import { modelFamilies } from '@accel/core';
import { beforeAll, describe, expect, it } from 'vitest';
import { catalogue } from '../src/methods/catalogue.js';
import type { MethodInfo } from '../src/methods/matrix.js';
import { loadMethod } from '../src/methods/registry.js';
import { accel } from './fake-io.js';

let list: MethodInfo[];
let text: string;
beforeAll(async () => {
  const json = await accel(['methods', '--json']);
  expect(json.stderr).toBe('');
  list = JSON.parse(json.stdout) as MethodInfo[];
  text = (await accel(['methods'])).stdout;
});

const find = (id: string): MethodInfo => {
  const method = list.find((candidate) => candidate.id === id);
  if (method === undefined) throw new Error(`${id} is not listed`);
  return method;
};
const partner = (id: string, other: string) =>
  find(id).partners.find((candidate) => candidate.id === other);

const OURS = [
  'streamingllm',
  'snapkv',
  'h2o',
  'l2compress',
  'pyramidkv',
  'cakekv',
  'cam',
  'think',
  'kivi',
  'flexprefill',
  'xattention',
];

describe('accel methods --json', () => {
  it('lists all eleven, and describes the installed ones', () => {
    expect(list.map((method) => method.id)).toEqual(catalogue.map((entry) => entry.id));
    for (const id of OURS) {
      const method = find(id);
      expect(method, id).toMatchObject({ installed: true });
      expect(Object.keys(method.presets).sort(), id).toEqual(['loom', 'paper']);
      expect(method.problem, id).toBeUndefined();
      expect(method.devices, id).toContain('cpu');
      expect(method.models.map(({ family }) => family)).toEqual([...modelFamilies]);
    }
  });

  it('says the same of a method as the catalogue does', () => {
    for (const [index, entry] of catalogue.entries()) {
      expect(list[index], entry.id).toMatchObject({ title: entry.title, paper: entry.paper });
      expect(list[index]?.slots, entry.id).toEqual(entry.slots);
    }
  });

  it('reads devices from the op libraries, which one build makes alike', async () => {
    const methods = await Promise.all(catalogue.map(loadMethod));
    const own = methods.filter((method) => method?.library !== undefined);
    expect(own.length).toBeGreaterThan(1);
    const kinds = new Set(own.map((method) => find(method?.id ?? '').devices.join(', ')));
    expect(['cpu', 'cpu, cuda']).toContain([...kinds].join(' or '));
  });

  it('knows models that a method refuses', () => {
    const [family] = find('streamingllm').models;
    expect(family?.refused.map(({ models }) => models)).toEqual(['dynamic rope scaling']);
    expect(family?.refused[0]?.why).toContain('use positions "original"');
    expect(find('snapkv').models[0]?.refused).toEqual([]);
  });

  it('knows what comes of every pair, the same from both sides', () => {
    for (const a of OURS) {
      expect(
        find(a)
          .partners.map(({ id }) => id)
          .sort(),
      ).toEqual(OURS.filter((id) => id !== a).sort());
      for (const b of OURS) {
        if (a === b) continue;
        const [one, other] = [partner(a, b), partner(b, a)];
        expect({ ...one, id: '' }, `${a}+${b}`).toEqual({ ...other, id: '' });
      }
    }
    expect(partner('snapkv', 'pyramidkv')).toMatchObject({
      legal: true,
      parts: ['snapkv select', 'pyramidkv budget'],
      problems: [],
      warnings: [],
    });
    expect(partner('h2o', 'snapkv')?.legal).toBe(false);
    expect(partner('h2o', 'snapkv')?.problems).toEqual([
      'two select parts, but a policy has at most one in each slot',
    ]);
    expect(partner('cakekv', 'pyramidkv')?.problems[0]).toContain('two budget parts');
    expect(partner('pyramidkv', 'cam')?.problems[0]).toContain('Name the select method you mean');
    expect(partner('streamingllm', 'pyramidkv')).toMatchObject({ legal: true });
    expect(partner('streamingllm', 'pyramidkv')?.warnings[0]).toContain(
      'the allocation has no use',
    );
    expect(partner('snapkv', 'cam')?.warnings[0]).toContain('merging pays');
    expect(partner('h2o', 'cam')).toMatchObject({ legal: true, warnings: [] });
    expect(partner('snapkv', 'kivi')).toMatchObject({ legal: true, warnings: [] });
    expect(partner('think', 'kivi')).toMatchObject({ legal: true, warnings: [] });
    expect(partner('xattention', 'kivi')).toMatchObject({ legal: true, warnings: [] });
    expect(partner('flexprefill', 'xattention')?.problems[0]).toContain('two prefill parts');
    expect(partner('h2o', 'xattention')?.problems[0]).toContain('needs columnSums');
    expect(partner('h2o', 'kivi')?.problems[0]).toContain('rows leave one by one');
  });
});

describe('accel methods', () => {
  it('prints methods and which go together', () => {
    // Whether there is CUDA differs between builds, and with it the widths of columns.
    const anywhere = text
      .replaceAll(/ {2}(cpu, cuda|cpu) +(?=all)/g, '  DEVICES  ')
      .replaceAll(/-{3,}/g, '---')
      .replaceAll(/ {2,}/g, '  ');
    expect(anywhere).toMatchSnapshot();
  });

  it('fits 100 columns', () => {
    expect(text.split('\n').filter((line) => line.length > 100)).toEqual([]);
  });

  it('says how to install what is missing', () => {
    const missing = list.filter((method) => !method.installed);
    // When every method is a dependency there is nothing left to install.
    for (const method of missing) expect(text).toContain(method.package);
    expect(text.includes('npm i')).toBe(missing.length > 0);
  });
});
