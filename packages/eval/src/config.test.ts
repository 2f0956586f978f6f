import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import {
  isNoTemplateTask,
  parseBenchmarkConfig,
  readBenchmarkConfig,
  shippedConfig,
} from './config.js';
import { RULER_TASKS } from './ruler/tasks.js';

describe('parseBenchmarkConfig', () => {
  it('reads the shipped default, which spells out the defaults', async () => {
    const config = await readBenchmarkConfig(shippedConfig('ruler'));
    expect(config).toEqual(parseBenchmarkConfig('benchmark_name: RULER'));
    expect(config.tasks).toEqual(RULER_TASKS.map((task) => task.name));
  });

  it("reads the seed toolkit's settings: NULL means raw prompts", async () => {
    const config = parseBenchmarkConfig(await readFile(shippedConfig('loom'), 'utf8'));
    expect(config).toMatchObject({ template: 'none', samples: 10, tokensToGenerate: 'loom' });
    expect(config.lengths).toEqual([4096, 8192, 16384, 32768, 65536, 131072]);
  });

  it('reads the config for the embedded model, which leaves out the worked example', async () => {
    expect(await readBenchmarkConfig(shippedConfig('needle'))).toMatchObject({
      workedExample: false,
      template: 'none',
    });
  });

  it('resolves paths from the folder of the file', () => {
    const config = parseBenchmarkConfig(
      'benchmark_name: RULER\nessay_path: texts/essay.txt\n',
      '/data/ruler.yaml',
    );
    expect(config.essayPath).toBe('/data/texts/essay.txt');
  });

  it('matches no_template_tasks as parts of the task id', () => {
    const some = parseBenchmarkConfig('benchmark_name: RULER\nno_template_tasks: [VT, _8192]');
    expect(isNoTemplateTask(some, 'vt_4096')).toBe(true);
    expect(isNoTemplateTask(some, 'niah_single_1_8192')).toBe(true);
    expect(isNoTemplateTask(some, 'niah_single_1_4096')).toBe(false);
    for (const all of ['all', '[all]']) {
      const config = parseBenchmarkConfig(`benchmark_name: RULER\nno_template_tasks: ${all}`);
      expect(isNoTemplateTask(config, 'niah_single_1_4096')).toBe(true);
    }
  });

  it.each([
    ['broken YAML', 'benchmark_name: RULER\nlength: [4096,\n', /^c\.yaml:3:1: not valid YAML/],
    [
      'an unknown key',
      'benchmark_name: RULER\nlenght: 4096\n',
      /^c\.yaml:2:\d+: unknown key lenght; known keys: .*length/,
    ],
    ['a bad value', 'benchmark_name: RULER\nlength:\n  - 4096\n  - many\n', /^c\.yaml:4:5: length/],
    ['a negative count', 'benchmark_name: RULER\nnum_samples: -3\n', /^c\.yaml:2:14: num_samples/],
    ['another benchmark', 'benchmark_name: LongBench\n', /^c\.yaml:1:17: benchmark_name/],
    [
      'an unknown task',
      'benchmark_name: RULER\ntask_names: [niah_single_1, niah_single_9]\n',
      /^c\.yaml:2:29: .*no RULER task niah_single_9.*Available/,
    ],
    [
      'a task still to come',
      'benchmark_name: RULER\ntask_names: [cwe]\n',
      /cwe is not in this version/,
    ],
    ['an unknown template', 'benchmark_name: RULER\ntemplate: llama3\n', /^c\.yaml:2:11: template/],
    ['no content', '', /^c\.yaml:1:1: /],
  ])('says where %s is', (_, text, message) => {
    expect(() => parseBenchmarkConfig(text, 'c.yaml')).toThrow(
      expect.objectContaining({
        code: 'ERR_ACCEL_CONFIG',
        message: expect.stringMatching(message) as string,
      }),
    );
  });

  it('says which file cannot be read', async () => {
    await expect(readBenchmarkConfig('/nowhere/x.yaml')).rejects.toMatchObject({
      code: 'ERR_ACCEL_FILE',
    });
  });
});
