import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { budget } from '../../src/policy/budget.js';
import { compose } from '../../src/policy/compose.js';
import { type Method, MethodRegistry } from '../../src/policy/method.js';
import { parseMethodConfig, readMethodConfig } from '../../src/policy/method-config.js';
import { editDistance, nearest } from '../../src/policy/nearest.js';
import { type OptionsReader, parseOptions } from '../../src/policy/options.js';
import { parsePolicy } from '../../src/policy/parse.js';
import { freezePart, type JsonObject, type Part } from '../../src/policy/part.js';
import { expectFailure } from '../shared.js';
import { folder } from '../weights/build.js';
import * as parts from './parts.js';

const reader = {
  title: 'Pick',
  schema: z.object({
    budget: z
      .union([z.strictObject({ tokens: z.number() }), z.strictObject({ keep: z.number() })])
      .default({ tokens: 1024 }),
    observe: z.int().min(1).default(32),
    pool: z
      .object({ kind: z.enum(['avg', 'max']).default('avg'), size: z.int().default(5) })
      .prefault({}),
  }),
  aliases: {
    max_capacity_prompt: 'budget.tokens',
    window_size: 'observe',
    kernel_size: 'pool.size',
    pooling: {
      to: 'pool.kind',
      convert: (value) => (value === 'maxpool' ? 'max' : value === 'avgpool' ? 'avg' : value),
    },
    use_flash: { ignored: 'the attention kernel is chosen by the engine' },
  },
} satisfies OptionsReader<unknown>;

function pick(config: JsonObject): Part {
  const { budget: rows, ...rest } = parseOptions(reader, config);
  return freezePart({ ...parts.snapkv, id: 'pick', options: { budget: budget(rows), ...rest } });
}

const pickMethod: Method = {
  id: 'pick',
  title: 'Pick',
  paper: 'none',
  slots: ['select'],
  options: reader.schema,
  fromConfig: (config) => [pick(config)],
  presets: { paper: 'p', loom: 'l' },
};

/** Like PyramidKV: an allocator that brings the selector it allots for. */
const allot: Method = {
  ...pickMethod,
  id: 'allot',
  title: 'Allot',
  slots: ['budget', 'select'],
  fromConfig: (config) => [
    freezePart({ ...parts.pyramidkv, id: 'allot', options: config }),
    pick({}),
  ],
};

const methods = new MethodRegistry([pickMethod, allot]);

describe('options', () => {
  test('under our names and under others', () => {
    const ours = pick({ budget: { tokens: 600 }, observe: 16, pool: { size: 7, kind: 'max' } });
    const theirs = pick({
      max_capacity_prompt: 600,
      window_size: 16,
      kernel_size: 7,
      pooling: 'maxpool',
      use_flash: 'False',
    });
    expect(theirs.options).toEqual(ours.options);
    expect(pick({}).options).toEqual({
      budget: { tokens: 1024 },
      observe: 32,
      pool: { kind: 'avg', size: 5 },
    });
    expect(pick({ pool: { kind: 'max' }, kernel_size: 3 }).options['pool']).toEqual({
      kind: 'max',
      size: 3,
    });
  });

  const bad: [JsonObject, string][] = [
    [{ obsrve: 3 }, 'Pick: obsrve is not an option. Did you mean observe?'],
    [{ windowsize: 3 }, 'Did you mean window_size?'],
    [{ pool: { sise: 3 } }, 'Pick: pool.sise is not an option. Did you mean size?'],
    [{ nothing_like_it: 3 }, 'nothing_like_it is not an option. Options: budget, observe, pool'],
    [{ constructor: 3 }, 'constructor is not an option'],
    [JSON.parse('{"__proto__":{"observe":3}}') as JsonObject, '__proto__ is not an option'],
    [{ observe: 0 }, 'Pick: observe'],
    [{ window_size: 0 }, 'Pick: window_size'],
    [{ pooling: 'median' }, 'Pick: pooling'],
    [{ observe: 8, window_size: 8 }, 'window_size means observe, which the config gives too'],
    [{ pool: 'avg', kernel_size: 5 }, 'kernel_size means pool.size'],
  ];
  test.each(bad)('%j', async (config, words) => {
    await expectFailure(() => pick(config), 'ERR_ACCEL_POLICY', words);
  });

  test('that are no object', async () => {
    for (const value of [null, [], 'x', 3]) {
      await expectFailure(
        () => parseOptions(reader, value),
        'ERR_ACCEL_POLICY',
        'must be an object',
      );
    }
  });

  test('the given object is not changed', () => {
    const config = { pool: { kind: 'max' }, kernel_size: 3 };
    pick(config);
    expect(config).toEqual({ pool: { kind: 'max' }, kernel_size: 3 });
  });
});

describe('the registry', () => {
  test('finds methods whatever the case', () => {
    expect(methods.get('PICK')).toBe(pickMethod);
    expect(methods.get('pi-ck')).toBe(pickMethod);
    expect(methods.has('allot')).toBe(true);
    expect([...methods].map(({ id }) => id)).toEqual(['pick', 'allot']);
  });

  test('suggests the nearest name', async () => {
    await expectFailure(
      () => methods.get('pcik'),
      'ERR_ACCEL_METHOD_UNKNOWN',
      'Did you mean Pick? Known: Pick, Allot.',
    );
    await expectFailure(
      () => methods.get('xattention'),
      'ERR_ACCEL_METHOD_UNKNOWN',
      /"xattention"\. Known/,
    );
    expect(nearest('snapvk', ['SnapKV', 'KIVI'])).toBe('SnapKV');
    expect(nearest('zzz', ['SnapKV', 'KIVI'])).toBeUndefined();
    expect([
      editDistance('', 'abc'),
      editDistance('abcd', 'bacd'),
      editDistance('kitten', 'sitting'),
    ]).toEqual([3, 1, 3]);
  });

  test('refuses a second method of a name', async () => {
    methods.register(pickMethod);
    await expectFailure(
      () => methods.register({ ...pickMethod }),
      'ERR_ACCEL_ARGUMENT',
      'registered already',
    );
  });
});

describe('policy documents', () => {
  test('give the policy back, through text', () => {
    const policy = compose(
      pick({ observe: 8 }),
      freezePart({ ...parts.pyramidkv, id: 'allot', options: { beta: 9 } } as const),
    );
    const again = parsePolicy(JSON.parse(JSON.stringify(policy)), methods);
    expect(again.toJSON()).toEqual(policy.toJSON());
    expect(again.parts.map(({ slot }) => slot)).toEqual(['select', 'budget']);
  });

  test('written by hand may be short', () => {
    expect(parsePolicy({ parts: ['Pick'] }, [pickMethod]).parts[0]?.options).toMatchObject({
      observe: 32,
    });
    expect(parsePolicy({ parts: [{ id: 'allot' }] }, methods).parts.map(({ id }) => id)).toEqual([
      'allot',
      'pick',
    ]);
    expect(parsePolicy({ parts: [] }, methods).parts).toEqual([]);
  });

  test('are checked by the same table as compose', async () => {
    await expectFailure(
      () => parsePolicy({ parts: ['pick', 'pick'] }, methods),
      'ERR_ACCEL_POLICY',
      'two select parts: pick, pick',
    );
    await expectFailure(
      () => parsePolicy({ parts: ['allot', { id: 'allot', slot: 'budget' }] }, methods),
      'ERR_ACCEL_POLICY',
      'two budget parts',
    );
  });

  test('join methods as assemble says', () => {
    const policy = parsePolicy(
      { parts: ['allot', { id: 'pick', options: { observe: 8 } }] },
      methods,
    );
    expect(policy.parts.map(({ id, options }) => [id, options['observe']])).toEqual([
      ['allot', undefined],
      ['pick', 8],
    ]);
    const own: Method = {
      ...allot,
      id: 'own',
      optionalSlots: ['select'],
      fromConfig: (config) => [
        freezePart({ ...parts.pyramidkv, id: 'own', options: config }),
        freezePart({ ...pick({}), id: 'own' }),
      ],
    };
    const known = [pickMethod, own];
    const slotsOf = (document: unknown): string[] =>
      parsePolicy(document, known).parts.map(({ id, slot }) => `${id} ${slot}`);
    expect(slotsOf({ parts: ['own'] })).toEqual(['own budget', 'own select']);
    expect(slotsOf({ parts: ['own', 'pick'] })).toEqual(['own budget', 'pick select']);
    // An entry with a slot insists on it.
    expect(slotsOf({ parts: [{ id: 'own', slot: 'budget' }, 'pick'] })).toHaveLength(2);
    expect(() => slotsOf({ parts: ['own', 'pick', { id: 'own', slot: 'select' }] })).toThrow('two');
  });

  const bad: [
    unknown,
    'ERR_ACCEL_POLICY' | 'ERR_ACCEL_METHOD_UNKNOWN' | 'ERR_ACCEL_BUDGET',
    string,
  ][] = [
    [null, 'ERR_ACCEL_POLICY', 'not a policy'],
    [[], 'ERR_ACCEL_POLICY', 'not a policy'],
    [{}, 'ERR_ACCEL_POLICY', 'parts'],
    [{ version: 2, parts: [] }, 'ERR_ACCEL_POLICY', 'version'],
    [{ parts: [], extra: 1 }, 'ERR_ACCEL_POLICY', 'extra'],
    [{ parts: [{ id: 'pick', slot: 'sel' }] }, 'ERR_ACCEL_POLICY', 'slot'],
    [{ parts: [{ id: 'pick', slot: 'codec' }] }, 'ERR_ACCEL_POLICY', 'Pick has no codec part'],
    [{ parts: ['pikc'] }, 'ERR_ACCEL_METHOD_UNKNOWN', 'Did you mean Pick?'],
    [
      { parts: [{ id: 'pick', options: { budget: { tokens: 0 } } }] },
      'ERR_ACCEL_BUDGET',
      'keeps 0 tokens',
    ],
    [{ parts: [{ id: 'pick', options: [] }] }, 'ERR_ACCEL_POLICY', 'options'],
  ];
  test.each(bad)('%j', async (document, code, words) => {
    await expectFailure(() => parsePolicy(document, methods), code, words);
  });
});

describe('config files', () => {
  const options = (text: string): unknown =>
    parseMethodConfig(text, pickMethod, 'pick.yaml')[0]?.options;

  test('in YAML and in JSON', () => {
    const want = { budget: { tokens: 64 }, observe: 8, pool: { kind: 'max', size: 5 } };
    expect(options('# ours\nbudget: { tokens: 64 }\nobserve: 8\npool:\n  kind: max\n')).toEqual(
      want,
    );
    expect(options('{"max_capacity_prompt": 64, "window_size": 8, "pooling": "maxpool"}')).toEqual(
      want,
    );
    expect(options('{}')).toMatchObject({ observe: 32 });
  });

  const bad: [string, 'ERR_ACCEL_YAML' | 'ERR_ACCEL_POLICY' | 'ERR_ACCEL_BUDGET', RegExp][] = [
    ['observe: [1\nx', 'ERR_ACCEL_YAML', /^pick\.yaml:2:\d+: not valid YAML/],
    ['observe: 1\nobserve: 2', 'ERR_ACCEL_YAML', /^pick\.yaml:2:1: not valid YAML/],
    ['\tobserve: 1', 'ERR_ACCEL_YAML', /^pick\.yaml:1:1/],
    ['', 'ERR_ACCEL_YAML', /^pick\.yaml:1:1: /],
    ['- a', 'ERR_ACCEL_YAML', /^pick\.yaml:1:1: must hold/],
    ['a: 1\n---\nb: 2', 'ERR_ACCEL_YAML', /^pick\.yaml:2:1: .*second document/],
    [
      'budget: { tokens: 64 }\nobserv: 8',
      'ERR_ACCEL_POLICY',
      /^pick\.yaml:2:1: Pick: observ is not an option\. Did you mean observe\?/,
    ],
    ['pool:\n  kind: max\n  sizes: 8', 'ERR_ACCEL_POLICY', /^pick\.yaml:3:3: Pick: pool\.sizes/],
    ['window_size: eight', 'ERR_ACCEL_POLICY', /^pick\.yaml:1:1: Pick: window_size/],
    [
      'observe: 4\nbudget: { tokens: 0 }',
      'ERR_ACCEL_BUDGET',
      /^pick\.yaml:1:1: The budget keeps 0 tokens/,
    ],
  ];
  test.each(bad)('%j', async (text, code, words) => {
    await expectFailure(() => options(text), code, words);
  });

  test('that multiply anchors are refused', async () => {
    const rows = ['a: &a [x, x, x, x, x, x, x, x, x]'];
    for (let i = 1; i < 9; i++) {
      const from = String.fromCharCode(96 + i);
      const to = String.fromCharCode(97 + i);
      rows.push(
        `${to}: &${to} [*${from}, *${from}, *${from}, *${from}, *${from}, *${from}, *${from}, *${from}, *${from}]`,
      );
    }
    await expectFailure(() => options(rows.join('\n')), 'ERR_ACCEL_YAML', 'cannot be expanded');
  });

  test('are read from disk', async () => {
    using dir = folder({ 'pick.yaml': 'observe: 4' });
    const [part] = await readMethodConfig(join(dir.path, 'pick.yaml'), pickMethod);
    expect(part?.options).toMatchObject({ observe: 4 });
    await expectFailure(
      () => readMethodConfig(join(dir.path, 'no.yaml'), pickMethod),
      'ERR_ACCEL_FILE',
      'no.yaml',
    );
  });
});
