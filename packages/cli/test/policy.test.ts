import { parsePolicy, type JsonObject, type Method, type Policy } from '@accel/core';
import { beforeAll, describe, expect, it } from 'vitest';
import { catalogue } from '../src/methods/catalogue.js';
import { resolvePolicies, resolvePolicy, type MethodConfigs } from '../src/methods/policy.js';
import { loadMethod } from '../src/methods/registry.js';
import { accel } from './fake-io.js';

/** Of each name, the parts of its policy. */
const compositions: [name: string, parts: string[]][] = [
  ['StreamingLLM', ['streamingllm select']],
  ['SnapKV', ['snapkv select']],
  ['H2O', ['h2o select']],
  ['L2Compress', ['l2compress select']],
  ['PyramidKV', ['pyramidkv budget', 'snapkv select']],
  ['CakeKV', ['cakekv budget', 'cakekv select']],
  ['CaM', ['cam merge', 'streamingllm select']],
  ['SnapKV+PyramidKV', ['pyramidkv budget', 'snapkv select']],
  ['H2O+PyramidKV', ['h2o select', 'pyramidkv budget']],
  ['L2Compress+PyramidKV', ['l2compress select', 'pyramidkv budget']],
  ['StreamingLLM+PyramidKV', ['pyramidkv budget', 'streamingllm select']],
  ['SnapKV+CakeKV', ['cakekv budget', 'snapkv select']],
  ['H2O+CakeKV', ['cakekv budget', 'h2o select']],
  ['L2Compress+CakeKV', ['cakekv budget', 'l2compress select']],
  ['H2O+CaM', ['cam merge', 'h2o select']],
  ['StreamingLLM+CaM', ['cam merge', 'streamingllm select']],
  ['CakeKV+CaM', ['cakekv budget', 'cakekv select', 'cam merge']],
  ['H2O+PyramidKV+CaM', ['cam merge', 'h2o select', 'pyramidkv budget']],
  ['SnapKV+CakeKV+CaM', ['cakekv budget', 'cam merge', 'snapkv select']],
];

const none: MethodConfigs = new Map();
const partsOf = (policy: Policy): string[] =>
  policy.parts.map(({ id, slot }) => `${id} ${slot}`).sort();

let methods: Method[];
beforeAll(async () => {
  const loaded = await Promise.all(catalogue.map(loadMethod));
  methods = loaded.filter((method) => method !== undefined);
});

describe.each(compositions)('%s', (name, parts) => {
  it('has its parts, whatever the order', async () => {
    const resolved = await resolvePolicy(name.toUpperCase(), none);
    expect(resolved.name).toBe(name);
    expect(partsOf(resolved.policy)).toEqual(parts);
    const turned = name.split('+').reverse().join(' + ');
    const other = await resolvePolicy(turned, none);
    expect(other.name).toBe(turned.replaceAll(' ', ''));
    expect(partsOf(other.policy)).toEqual(parts);
    const byPart = (policy: Policy) => new Map(policy.parts.map((part) => [part.slot, part]));
    for (const [slot, part] of byPart(resolved.policy)) {
      expect(byPart(other.policy).get(slot)?.options).toEqual(part.options);
    }
  });

  it('is the same as a policy document', async () => {
    const { policy } = await resolvePolicy(name, none);
    const again = parsePolicy(JSON.parse(JSON.stringify(policy)), methods);
    expect(again.toJSON()).toEqual(JSON.parse(JSON.stringify(policy)));
    const short = parsePolicy({ parts: name.toLowerCase().split('+') }, methods);
    expect(partsOf(short)).toEqual(parts);
  });
});

describe('options', () => {
  it('of every method apply, and those of companions come from the method that brings them', async () => {
    const configs = new Map<string, JsonObject>([
      ['snapkv', { observe: 16, budget: { tokens: 96 } }],
      ['pyramidkv', { beta: 10 }],
    ]);
    const { policy } = await resolvePolicy('PyramidKV+SnapKV', configs);
    const bySlot = Object.fromEntries(policy.parts.map(({ slot, options }) => [slot, options]));
    expect(bySlot['select']).toMatchObject({ observe: 16, budget: { tokens: 96 } });
    expect(bySlot['budget']).toMatchObject({ beta: 10 });
  });

  it('are named by method once', async () => {
    const configs = new Map<string, JsonObject>([['snapkv', {}]]);
    await expect(resolvePolicies(['PyramidKV'], configs)).rejects.toThrow(
      '--config names SnapKV, which --acceleration does not use',
    );
    await expect(resolvePolicies(['PyramidKV,SnapKV+CakeKV'], configs)).resolves.toHaveLength(2);
  });
});

const wrong: [name: string, exitCode: number, message: RegExp][] = [
  [
    'H2O+SnapKV',
    1,
    /^error ERR_ACCEL_POLICY: These parts do not make a policy \(h2o \+ snapkv\): two select parts: h2o, snapkv\. Leave one out/,
  ],
  ['SnapKV+PyramidKV+H2O', 1, /two select parts: snapkv, h2o\./],
  ['PyramidKV+CakeKV', 1, /: two budget parts: pyramidkv, cakekv\./],
  [
    'PyramidKV+CaM',
    1,
    /PyramidKV brings the select part of snapkv along, CaM that of streamingllm\. Name the select method you mean as well/,
  ],
  ['SnapKV+PyramdKV', 1, /no method called "PyramdKV"\. Did you mean PyramidKV\?/],
  ['H20+CaM', 1, /no method called "H20"\. Did you mean H2O\?/],
  ['L2Compres', 1, /Did you mean L2Compress\?/],
  ['CaKeV', 1, /Did you mean CakeKV\?/],
  ['SnapKV+snap-kv', 2, /SnapKV\+snap-kv names SnapKV twice/],
  ['full+H2O', 2, /full means no method/],
];

describe('what cannot be', () => {
  it.each(wrong)('%s', async (name, code, message) => {
    const { exitCode, stderr, stdout } = await accel(['eval', '--acceleration', name]);
    expect(stderr).toMatch(message);
    expect(exitCode).toBe(code);
    expect(stdout).toBe('');
  });
});
