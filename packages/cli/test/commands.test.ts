import { mkdtemp, mkdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { accel } from './fake-io.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'accel-cli-'));
});
afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

describe('help', () => {
  it.each([
    [],
    ['generate'],
    ['eval'],
    ['inspect'],
    ['calibrate'],
    ['devices'],
    ['methods'],
    ['pull'],
  ])('of accel %s', async (...words) => {
    const { exitCode, stdout, stderr } = await accel([...words, '--help']);
    expect(exitCode).toBe(0);
    expect(stderr).toBe('');
    expect(stdout).toMatchSnapshot();
  });

  it('fits 100 columns', async () => {
    for (const words of [[], ['generate'], ['eval'], ['inspect'], ['calibrate'], ['pull']]) {
      const { stdout } = await accel([...words, '--help']);
      const wide = stdout.split('\n').filter((line) => line.length > 100);
      expect(wide).toEqual([]);
    }
  });

  it('is shown on standard error, with exit code 2, when no command is given', async () => {
    const { exitCode, stdout, stderr } = await accel([]);
    expect(exitCode).toBe(2);
    expect(stdout).toBe('');
    expect(stderr).toContain('Usage: accel');
  });

  it('prints the version', async () => {
    const { exitCode, stdout } = await accel(['--version']);
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});

describe('accel devices', () => {
  it('lists the cpu with its instruction set and memory', async () => {
    const { exitCode, stdout } = await accel(['devices', '--json']);
    expect(exitCode).toBe(0);
    const [cpu] = JSON.parse(stdout) as { id: string; isa: string; threads: number }[];
    expect(cpu?.id).toBe('cpu');
    expect(cpu?.threads).toBeGreaterThan(0);
    const table = await accel(['devices']);
    expect(table.stdout).toContain(cpu?.isa);
    expect(table.stdout).toMatch(/GiB of .* free/);
  });
});

/** Wrong use of the command line: exit code 2 and a message that names the flag. */
const misuse: [string[], RegExp][] = [
  [['evla'], /unknown command 'evla'[\s\S]*Did you mean eval/],
  [['eval', '--acceleratoin', 'SnapKV'], /unknown option '--acceleratoin'[\s\S]*--acceleration/],
  [['eval', '--torch_dtype', 'int4'], /unknown number format "int4"/],
  [['eval', '--limit', 'few'], /--limit must be a whole number/],
  [['eval', '--limit', '0'], /--limit 0 leaves nothing/],
  [['eval', '--lengths', '4096,long'], /"long" is not a prompt length/],
  [['eval', '--resume'], /--resume needs --save-tag/],
  [['eval', '--save-tag', '../x'], /--save-tag is the name of one folder/],
  [['eval', '--config', 'snapkv'], /--config takes METHOD=path\.yaml/],
  [['eval', '--config', 'snapkv=loom'], /--config names SnapKV, which --acceleration does not use/],
  [['eval', '--config', 'snapkv=loom', '--config', 'SnapKV=paper'], /given twice for SnapKV/],
  [['eval', '--acceleration', ','], /--acceleration is empty/],
  [['eval', '--device', 'tpu'], /unknown device "tpu"/],
  [['generate'], /there is no prompt/],
  [['generate', 'a', '--prompt-file', 'b'], /given twice/],
  [['generate', 'a', '--top_p', '2'], /--top-p must be a number from 0 to 1/],
  [['generate', 'a', 'b'], /too many arguments/],
];

describe('wrong use', () => {
  it.each(misuse)('%j', async (argv, message) => {
    const { exitCode, stdout, stderr } = await accel(argv);
    expect(stderr).toMatch(message);
    expect(stderr).toMatch(/^error/);
    expect(stderr).not.toMatch(/^\s+at /m);
    expect(exitCode).toBe(2);
    expect(stdout).toBe('');
  });
});

describe('errors', () => {
  it('suggests the nearest method', async () => {
    const { exitCode, stderr } = await accel(['eval', '--acceleration', 'SnapVK']);
    expect(stderr).toMatch(
      /^error ERR_ACCEL_METHOD_UNKNOWN: There is no method called "SnapVK"\. Did you mean SnapKV\?/,
    );
    expect(exitCode).toBe(1);
  });

  it('names the package of a method that is not installed', async () => {
    const { stdout } = await accel(['methods', '--json']);
    const list = JSON.parse(stdout) as { title: string; installed: boolean; package: string }[];
    const missing = list.find((method) => !method.installed);
    // When every method is a dependency there is nothing left to install; the list above then says so.
    if (missing === undefined) return;
    const { exitCode, stderr } = await accel([
      'eval',
      '--acceleration',
      missing.title.toUpperCase(),
    ]);
    expect(stderr).toContain(`npm i ${missing.package}`);
    expect(exitCode).toBe(1);
  });

  it.each([
    ['methods', ['--acceleration', 'snapkv', '--config'], 'snapkv='],
    ['benchmark', ['--cfg_path'], ''],
  ])('points at the line of broken YAML in a %s config', async (_what, flags, prefix) => {
    const path = join(folder, 'broken.yaml');
    await writeFile(path, 'benchmark_name: RULER\ntask_names: [vt\nlength: 4096\n');
    const { exitCode, stderr } = await accel([
      'eval',
      ...flags.slice(0, -1),
      flags.at(-1) ?? '',
      prefix + path,
    ]);
    expect(stderr).toMatch(/^error ERR_ACCEL_(YAML|CONFIG): .*broken\.yaml:3:\d+/);
    expect(exitCode).toBe(1);
  });

  it('refuses a method option that does not exist', async () => {
    const path = join(folder, 'odd.yaml');
    await writeFile(path, 'no_such_option: 1\n');
    const { exitCode, stderr } = await accel([
      'eval',
      '--acceleration=snapkv',
      `--config=snapkv=${path}`,
    ]);
    expect(stderr).toMatch(/^error ERR_ACCEL_\w+: .*no_such_option/);
    expect(exitCode).toBe(1);
  });

  it('says which file is missing', async () => {
    const config = await accel(['eval', '--cfg_path', join(folder, 'absent.yaml')]);
    expect(config.stderr).toMatch(/^error ERR_ACCEL_FILE: .*absent\.yaml/);
    const prompt = await accel(['generate', '--prompt-file', join(folder, 'absent.txt')]);
    expect(prompt.stderr).toMatch(/^error ERR_ACCEL_FILE: .*absent\.txt/);
    const model = await accel(['generate', 'hello', '--model_path', join(folder, 'no-model')]);
    expect(model.stderr).toMatch(/^error ERR_ACCEL_\w+: .*no-model/);
    expect([config.exitCode, prompt.exitCode, model.exitCode]).toEqual([1, 1, 1]);
  });

  it('asks for a GPU in vain with a clear error', async () => {
    const { stdout } = await accel(['devices', '--json']);
    const absent = (JSON.parse(stdout) as unknown[]).length + 7;
    const { exitCode, stderr } = await accel(['generate', 'hello', '--device', String(absent)]);
    expect(stderr).toMatch(/^error ERR_ACCEL_(NO_DEVICE|DEVICE_UNAVAILABLE): /);
    expect(exitCode).toBe(1);
  });

  it('never overwrites a run, and continues none that is not there', async () => {
    const run = join(folder, 'taken');
    await mkdir(run);
    await writeFile(join(run, 'records.jsonl'), '{}\n');
    const taken = await accel(['eval', '--output_dir', folder, '--save_tag', 'taken']);
    expect(taken.stderr).toMatch(/already holds a run.*--resume/);
    const absent = await accel([
      'eval',
      '--output_dir',
      folder,
      '--save_tag',
      'absent',
      '--resume',
    ]);
    expect(absent.stderr).toMatch(/holds no run to continue/);
    expect([taken.exitCode, absent.exitCode]).toEqual([1, 1]);
  });

  it('shows the stack only with --debug', async () => {
    const { stderr } = await accel(['eval', '--acceleration', 'nothing-like-it', '--debug']);
    expect(stderr).toMatch(/^\s+at /m);
  });
});
