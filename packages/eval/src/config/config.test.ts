import { readFile } from 'node:fs/promises';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { LONGBENCH_RAW_TASKS, LONGBENCH_TASKS } from '../longbench/tasks.js';
import { RULER_TASKS } from '../ruler/tasks.js';
import { shippedConfig, type ShippedConfig } from '../shipped-config.js';
import { longBenchConfig, niahConfig, nllConfig, rulerConfig } from './defaults.js';
import { linearSteps, sigmoidSteps } from './intervals.js';
import { isNoTemplateTask } from './no-template.js';
import { parseBenchmarkConfig, readBenchmarkConfig, type ParsedConfig } from './parse.js';
import { describeProblems } from './problems.js';
import type { BenchmarkConfig, NiahConfig } from './types.js';

function parse(...lines: string[]): ParsedConfig {
  return parseBenchmarkConfig(lines.join('\n'), 'c.yaml', {});
}

/** A config without anything to warn of. */
function clean(...lines: string[]): BenchmarkConfig {
  const { config, warnings } = parse(...lines);
  expect(warnings).toEqual([]);
  return config;
}

describe('shipped configs', () => {
  const read = async (name: ShippedConfig): Promise<BenchmarkConfig> => {
    const { config, warnings } = await readBenchmarkConfig(shippedConfig(name));
    expect(warnings).toEqual([]);
    return config;
  };

  it('say what the defaults are', async () => {
    expect(await read('ruler')).toEqual(rulerConfig());
    expect(await read('longbench')).toEqual(longBenchConfig());
    expect(await read('niah')).toEqual(niahConfig());
    expect(await read('nll')).toEqual(nllConfig({ samples: 10 }));
  });

  it("have the seed toolkit's run: 12 tasks, 6 lengths, raw prompts", async () => {
    const config = await read('loom');
    expect(config).toMatchObject({ benchmark: 'RULER', template: 'none', samples: 10 });
    expect(config).toMatchObject({ tokensToGenerate: 'loom', noTemplateTasks: ['fwe'] });
    const { tasks, lengths } = config as ReturnType<typeof rulerConfig>;
    expect([...tasks, 'fwe'].sort()).toEqual(RULER_TASKS.map(({ name }) => name).sort());
    expect(lengths).toEqual([4096, 8192, 16384, 32768, 65536, 131072]);
  });

  it('fit the embedded model', async () => {
    expect(await read('needle')).toMatchObject({ workedExample: false, template: 'none' });
    expect(await read('niah-needle')).toMatchObject({ needle: 'magic-number', samples: 11 });
  });
});

describe("the seed toolkit's files", () => {
  it('run unchanged', () => {
    const config = clean(
      'benchmark_name: RULER',
      'task_names: ["cwe","niah_multikey_1", "vt"]',
      'length: [4096,8192,16384,32768,65536,131072] ',
      'build_data: True',
      '',
      'num_samples: 10 # Set the number of samples for each task to num_samples',
      'no_template_tasks: ["fwe"]  # task_names or "all" ',
      'template: NULL  # choose from ./models/utils/build_chat.py',
    );
    expect(config).toEqual(
      rulerConfig({
        tasks: ['cwe', 'niah_multikey_1', 'vt'],
        lengths: [4096, 8192, 16384, 32768, 65536, 131072],
        samples: 10,
        noTemplateTasks: ['fwe'],
        template: 'none',
      }),
    );
  });

  it('may name a chat template: the model brings it, and that is said', () => {
    const { config, warnings } = parse('benchmark_name: RULER', 'chat_model: llama3');
    expect(config.template).toBe('model');
    expect(warnings).toEqual([expect.stringMatching(/^c\.yaml:2:1: chat_model llama3 is read as/)]);
  });

  it('may leave the list of tasks without a template empty, or say all', () => {
    expect(clean('benchmark_name: RULER', 'no_template_tasks:').noTemplateTasks).toEqual([]);
    for (const all of ['all', '[all]', '["all"]']) {
      const config = clean('benchmark_name: RULER', `no_template_tasks: ${all}`);
      expect(isNoTemplateTask(config, 'niah_single_1_4096')).toBe(true);
    }
    const some = clean('benchmark_name: RULER', 'no_template_tasks: [VT, _8192]');
    const tasks = ['vt_4096', 'niah_single_1_8192', 'niah_single_1_4096'];
    expect(tasks.map((task) => isNoTemplateTask(some, task))).toEqual([true, true, false]);
  });

  it('describe NIAH with its keys', () => {
    const { config, warnings } = parse(
      'benchmark_name: NIAH',
      'task_name: [niah]',
      'haystack_file: PaulGrahamEssays.jsonl',
      'context_lengths_min: 1000',
      'context_lengths_max: 128000',
      'context_lengths_num_intervals: 40',
      'document_depth_percent_min: 0',
      'document_depth_percent_max: 100',
      'document_depth_percent_intervals: 10',
      'document_depth_percent_interval_type: linear',
      'final_context_length_buffer: 200',
      'no_template_tasks: "all"',
    );
    const { lengths, depths, samples } = config as NiahConfig;
    expect([lengths.length, lengths[0], lengths[1], lengths[39]]).toEqual([
      40, 1000, 4256, 128_000,
    ]);
    expect(depths).toEqual([0, 11, 22, 33, 44, 56, 67, 78, 89, 100]);
    expect(samples).toBe(10);
    expect(warnings).toEqual([expect.stringContaining('haystack_file is a file of the seed')]);
  });
});

describe('our keys', () => {
  it('are read for every benchmark', () => {
    expect(clean('benchmark_name: NLL', 'length: 2048', 'target_tokens: 64', 'seed: 7')).toEqual(
      nllConfig({ lengths: [2048], targetTokens: 64, seed: 7 }),
    );
    expect(
      clean('benchmark_name: LongBench', 'task_names: qasper_e', 'modes: [second-turn]'),
    ).toEqual(longBenchConfig({ tasks: ['qasper_e'], modes: ['second-turn'] }));
    expect(clean('benchmark_name: LongBench').noTemplateTasks).toEqual(LONGBENCH_RAW_TASKS);
    expect(longBenchConfig().tasks).toHaveLength(LONGBENCH_TASKS.length);
  });

  it('take paths from the folder of the file', () => {
    const { config } = parseBenchmarkConfig(
      'benchmark_name: RULER\nessay_path: texts/essay.txt\nsquad_path: /s.json\n',
      '/data/ruler.yaml',
    );
    expect(config).toMatchObject({ essayPath: '/data/texts/essay.txt', squadPath: '/s.json' });
  });

  it('drop repetitions, which would give records the same id', () => {
    expect(clean('benchmark_name: RULER', 'length: [8192, 4096, 8192]')).toMatchObject({
      lengths: [8192, 4096],
    });
  });
});

describe('unknown keys', () => {
  it('are warned of, with place and suggestion, and do not fail', () => {
    const { config, warnings } = parse('benchmark_name: RULER', 'lenght: 4096', 'zzz: [1]');
    expect(config).toEqual(rulerConfig());
    expect(warnings[0]).toBe('c.yaml:2:1: unknown key lenght is ignored. Did you mean length?');
    expect(warnings[1]).toMatch(/^c\.yaml:3:1: unknown key zzz is ignored\. Known keys: .*length/);
  });
});

describe('problems', () => {
  const cases: [string, string[], RegExp][] = [
    [
      'broken YAML',
      ['benchmark_name: RULER', 'length: [4096,', ''],
      /^c\.yaml:3:1: not valid YAML/,
    ],
    ['a tab', ['benchmark_name: RULER', '\tlength: 4096'], /^c\.yaml:2:1: not valid YAML/],
    [
      'a key given twice',
      ['benchmark_name: RULER', 'seed: 1', 'seed: 2'],
      /^c\.yaml:3:1: not .*unique/,
    ],
    [
      'a bad item',
      ['benchmark_name: RULER', 'length:', '  - 4096', '  - many'],
      /^c\.yaml:4:5: length\[1\]: value is "many"; allowed: a whole number, above 0$/,
    ],
    [
      'a negative count',
      ['benchmark_name: RULER', 'num_samples: -3'],
      /^c\.yaml:2:14: num_samples: value is -3; allowed: a whole number, above 0$/,
    ],
    [
      'another benchmark',
      ['benchmark_name: LongBensch'],
      /^c\.yaml:1:17: benchmark_name: value is "LongBensch"; allowed: "RULER", "LongBench", "NIAH", "NLL"\. Did you mean LongBench\?$/,
    ],
    [
      'an unknown task',
      ['benchmark_name: RULER', 'task_names: [vt, niah_single_9]'],
      /^c\.yaml:2:18: task_names\[1\]: value is "niah_single_9"; allowed: .*"fwe", .*Did you mean niah_single_1\?$/,
    ],
    [
      'an unknown template',
      ['benchmark_name: RULER', 'template: lama3'],
      /^c\.yaml:2:11: template: value is "lama3"; allowed: .*"llama3".*null.*Did you mean llama3\?$/,
    ],
    ['nothing', [''], /^c\.yaml:1:1: \(top level\): value is null; allowed: a mapping/],
    ['a list', ['- 1'], /^c\.yaml:1:1: \(top level\): value is \[1\]; allowed: a mapping/],
    ['no name', ['length: 3'], /^c\.yaml:1:1: benchmark_name: value is missing; allowed: "RULER"/],
    [
      'two names for one thing',
      ['benchmark_name: RULER', 'template: auto', 'chat_model: NULL'],
      /^c\.yaml:3:13: chat_model: value is null; allowed: one of template, chat_model; template is there too$/,
    ],
    [
      'a target without anything before it',
      ['benchmark_name: NLL', 'length: [512, 256]', 'target_tokens: 256'],
      /^c\.yaml:3:16: target_tokens: value is 256; allowed: a whole number below the shortest length, 256/,
    ],
    [
      'a question without a needle',
      ['benchmark_name: NIAH', 'retrieval_question: Where?'],
      /^c\.yaml:1:1: needle: value is missing; allowed: needle, retrieval_question and answer/,
    ],
    [
      'lengths the wrong way round',
      ['benchmark_name: NIAH', 'context_lengths_max: 10'],
      /^c\.yaml:2:22: context_lengths_max: value is 10; allowed: a number that is not below/,
    ],
    [
      'a data set that is not here',
      ['benchmark_name: RULER', 'essay_path: data:essays'],
      /^c\.yaml:2:13: essay_path: .*accel data pull essays --from <file>$/,
    ],
    [
      'aliases that multiply',
      ['a: &a [1,1,1,1,1,1,1,1,1]', ...bomb()],
      /^c\.yaml: not a config: .*alias/i,
    ],
    ['deep nesting', ['['.repeat(20_000)], /^c\.yaml/],
    ['a huge file', ['#'.repeat(70_000)], /^c\.yaml has 70000 characters/],
  ];

  it.each(cases)('say where %s is', (_, lines, message) => {
    expect(() => parseBenchmarkConfig(lines.join('\n'), 'c.yaml', { HOME: '/nowhere' })).toThrow(
      expect.objectContaining({
        code: 'ERR_ACCEL_CONFIG',
        message: expect.stringMatching(message) as string,
      }),
    );
  });

  it('are told all at once', () => {
    expect(() => parse('benchmark_name: RULER', 'length: x', 'seed: -1', 'modes: [fast]')).toThrow(
      /length: .*\n.*seed: value is -1; allowed: a whole number, at least 0, at most 4294967295\n.*modes\[0\]: value is "fast"; allowed: "query-aware"/,
    );
  });

  it('are described for any schema', () => {
    const schema = z.object({
      pool: z.object({ size: z.int().max(9) }),
      rest: z.array(z.boolean()),
    });
    const value = { pool: { size: 10 }, rest: [true, 'no'.repeat(50)] };
    const { error } = schema.safeParse(value);
    expect(describeProblems(error as z.ZodError, schema, value).map(({ text }) => text)).toEqual([
      'pool.size: value is 10; allowed: a whole number, at most 9',
      expect.stringMatching(/^rest\[1\]: value is "nono.*…; allowed: true or false$/),
    ]);
  });

  it('say which file cannot be read', async () => {
    await expect(readBenchmarkConfig('/nowhere/x.yaml')).rejects.toMatchObject({
      code: 'ERR_ACCEL_FILE',
    });
  });

  it('are the only thing that comes of anything else: fuzz', async () => {
    const texts = await Promise.all(
      (['ruler', 'loom', 'niah'] as const).map((name) => readFile(shippedConfig(name), 'utf8')),
    );
    const damaged = fc
      .tuple(fc.constantFrom(...texts), fc.nat(), fc.nat(40), fc.string({ unit: 'binary' }))
      .map(([text, at, length, put]) => {
        const from = at % text.length;
        return text.slice(0, from) + put + text.slice(from + length);
      });
    fc.assert(
      fc.property(fc.oneof(damaged, fc.string({ unit: 'binary' })), (text) => {
        try {
          parseBenchmarkConfig(text, 'c.yaml', {});
        } catch (error) {
          expect(error).toMatchObject({ code: 'ERR_ACCEL_CONFIG' });
        }
      }),
      { numRuns: 100 },
    );
  });
});

describe('intervals', () => {
  it('are those of numpy', () => {
    expect(linearSteps(1000, 16_000, 4)).toEqual([1000, 6000, 11_000, 16_000]);
    // np.round takes halves to the even neighbour.
    expect(linearSteps(0, 5, 3)).toEqual([0, 2, 5]);
    expect(linearSteps(7, 100, 1)).toEqual([7]);
    expect(sigmoidSteps(0, 100, 5)).toEqual([0, 7.586, 50, 92.414, 100]);
  });
});

/** Nine levels of nine aliases each. */
function bomb(): string[] {
  const names = Array.from('abcdefghij');
  return names.slice(1).map((name, i) => {
    const before = names[i] ?? '';
    return `${name}: &${name} [${Array.from({ length: 9 }, () => `*${before}`).join(',')}]`;
  });
}
