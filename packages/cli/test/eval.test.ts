import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { EvalRecord, EvalSummary, RunFile } from '@accel/eval';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ModelServer } from '../../eval/src/testing/model-server.js';
import { accel, type Outcome } from './fake-io.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'accel-eval-cli-'));
});
afterAll(() => rm(folder, { recursive: true }));

const evaluate = (tag: string, ...argv: string[]): Promise<Outcome> =>
  accel(['eval', '--output_dir', folder, '--save_tag', tag, '--no-report', ...argv]);
const read = (...path: string[]): Promise<string> => readFile(join(folder, ...path), 'utf8');
const json = async <T>(...path: string[]): Promise<T> => JSON.parse(await read(...path)) as T;
async function recordsOf(tag: string): Promise<EvalRecord[]> {
  const lines = (await read(tag, 'records.jsonl')).trimEnd().split('\n').slice(1);
  return lines.map((line) => JSON.parse(line) as EvalRecord);
}

const SHORT = ['--tasks', 'niah_single_1', '--lengths', '1024', '--limit', '1'];

const shared = process.env['ACCEL_SHARED'] ?? resolve(import.meta.dirname, '../../../../shared');
const squad = join(shared, 'data/ruler/squad-dev-v2.0-cs224n.json.gz');
const hotpot = join(shared, 'data/ruler/hotpot_dev_distractor_first100.json.gz');
const missing = [squad, hotpot].every(existsSync)
  ? undefined
  : `needs reference data data/ruler (set ACCEL_SHARED to its folder)`;

describe('the original toolkit’s experiment', () => {
  /** As it stands in its README. */
  const YAML = `benchmark_name: RULER
task_names: ["cwe","niah_multikey_1", "niah_multikey_2", "niah_multikey_3", "niah_multiquery", "niah_multivalue", "niah_single_1", "niah_single_2", "niah_single_3", "qa_1", "qa_2", "vt"]
length: [4096,8192,16384,32768,65536,131072] 

num_samples: 10 # Set the number of samples for each task to num_samples
no_template_tasks: ["fwe"]  # task_names or "all" 
template: NULL  # choose from ./models/utils/build_chat.py
`;

  it.skipIf(missing !== undefined)(
    `runs unchanged, in its command’s words${missing === undefined ? '' : ` [skipped: ${missing}]`}`,
    { timeout: 120_000 },
    async () => {
      const env = { ACCEL_DATA: join(folder, 'data') };
      for (const [set, file] of [
        ['squad', squad],
        ['hotpotqa', hotpot],
      ] as const) {
        const pulled = await accel(['data', 'pull', set, '--from', file], { env });
        expect(pulled.exitCode).toBe(0);
      }
      await writeFile(join(folder, 'RULER.yaml'), YAML);
      process.env['ACCEL_DATA'] = env.ACCEL_DATA;
      const { exitCode, stdout, stderr } = await evaluate(
        'seed',
        ...['--cfg_path', join(folder, 'RULER.yaml'), '--acceleration', 'SnapKV'],
        ...['--torch_dtype', 'torch.bfloat16', '--device', 'cpu', '--gp_num', '1', '--limit', '1'],
        ...['--max_length', '128000', '--template', 'NULL', '--batch_size', '8', '--eval'],
        // The embedded model has no more.
        ...['--lengths', '4096'],
      ).finally(() => delete process.env['ACCEL_DATA']);
      expect(stderr).not.toMatch(/unknown key/);
      expect(exitCode).toBe(0);
      expect(stdout).toMatch(/^SnapKV +4K/m);
      const records = await recordsOf('seed');
      expect(records.map(({ id }) => id)).toEqual(
        [
          ...['cwe', 'niah_multikey_1', 'niah_multikey_2', 'niah_multikey_3', 'niah_multiquery'],
          ...['niah_multivalue', 'niah_single_1', 'niah_single_2', 'niah_single_3', 'qa_1', 'qa_2'],
          'vt',
        ].map((task) => `${task}_4096/0/query-aware/SnapKV`),
      );
      const run = await json<RunFile>('seed', 'run.json');
      expect(run.config).toMatchObject({ samples: 10, template: 'none', noTemplateTasks: ['fwe'] });
      expect(run.calls[0]?.command?.slice(0, 1)).toEqual(['accel']);
      expect(run.achieved).toHaveLength(12);
      for (const { rowsStored, kvBytes } of run.achieved) {
        expect(rowsStored).toBe(1024);
        expect(kvBytes).toBeGreaterThan(0);
      }
      expect((await read('seed', 'summary.csv')).split('\n')[0]).toBe(
        `Method,Tasks,${records.map(({ task }) => `${task}_4096`).join(',')}`,
      );
    },
  );
});

describe('accel eval', () => {
  it('sweeps budgets and options, compares modes, and makes the report', async () => {
    const { exitCode, stdout } = await accel([
      ...['eval', '--output_dir', folder, '--save_tag', 'sweep', ...SHORT],
      ...['--acceleration', 'full,SnapKV', '--budgets', '128', '25%'],
      ...['--modes', 'query-aware', 'query-agnostic'],
    ]);
    expect(exitCode).toBe(0);
    const summary = await json<EvalSummary>('sweep', 'summary.json');
    expect(summary.averages.map(({ method, mode }) => `${method} ${mode}`)).toEqual([
      'full query-aware',
      'full query-agnostic',
      'SnapKV@128 query-aware',
      'SnapKV@128 query-agnostic',
      'SnapKV@25% query-aware',
      'SnapKV@25% query-agnostic',
    ]);
    expect(stdout).toMatch(/SnapKV@128 +query-agnostic +1K/);
    expect(await read('sweep', 'report.html')).toMatch(/^<!doctype html>/);
  });

  it('fails in strict mode when a policy never acted, and says so otherwise', async () => {
    const file = join(folder, 'large.json');
    await writeFile(file, '{"parts": [{"id": "snapkv", "options": {"budget": {"tokens": 4096}}}]}');
    const policy = ['--policy', file, ...SHORT];
    const lax = await evaluate('lax', ...policy);
    expect(lax.exitCode).toBe(0);
    expect(lax.stderr).toMatch(/under large \(query-aware\) snapkv\.select never acted/);
    const strict = await evaluate('strict', '--strict', ...policy);
    expect(strict.exitCode).not.toBe(0);
    expect(strict.stderr).toMatch(/large: snapkv\.select never acted in the whole run/);
    expect(await recordsOf('strict')).toHaveLength(2);
  });

  it.each([
    [
      'a value',
      'benchmark_name: RULER\nnum_samples: many\n',
      /:2:\d+: num_samples: value is "many"; allowed: /,
    ],
    [
      'a nested value',
      'benchmark_name: RULER\nlength: [4096, -1]\n',
      /:2:\d+: length\[1\]: value is -1; allowed: /,
    ],
    ['a benchmark', 'benchmark_name: RULR\n', /benchmark_name: value is "RULR"; allowed: .*RULER/],
    ['YAML', 'benchmark_name: [', /not valid YAML/],
  ])('names path, value and what is allowed: %s', async (_, yaml, message) => {
    await writeFile(join(folder, 'bad.yaml'), yaml);
    const { exitCode, stderr } = await evaluate('bad', '--cfg_path', join(folder, 'bad.yaml'));
    expect(exitCode).not.toBe(0);
    expect(stderr).toMatch(message);
    expect(existsSync(join(folder, 'bad'))).toBe(false);
  });

  it('asks a server instead, with the exact prompt, and reports it like any other', async () => {
    const server = await ModelServer.start();
    try {
      const { exitCode, stderr, stdout } = await accel(
        [
          ...['eval', '--output_dir', folder, '--save_tag', 'server', '--no-report', ...SHORT],
          ...['--limit', '2', '--endpoint', server.url, '--batch_size', '2'],
        ],
        { env: { OPENAI_API_KEY: 'sesame' } },
      );
      expect(exitCode, stderr).toBe(0);
      expect(stdout).toMatch(/^full +1K/m);
      expect(server.requests).toHaveLength(2);
      const [{ path, body, authorization } = {}] = server.requests;
      expect([path, authorization]).toEqual(['/v1/completions', 'Bearer sesame']);
      expect(body?.['prompt']).toMatch(/mentioned in the provided text is$/);
      expect(body).toMatchObject({ temperature: 0, max_tokens: 128 });
      const run = await json<RunFile>('server', 'run.json');
      expect(run.calls[0]).toMatchObject({
        executor: 'endpoint',
        hardware: { devices: [new URL(server.url).host] },
      });
      expect(await read('server', 'run.json')).not.toContain('sesame');
    } finally {
      await server.end();
    }
  });

  it('warns of unknown keys with a suggestion', async () => {
    await writeFile(join(folder, 'odd.yaml'), 'benchmark_name: RULER\nlenght: [1024]\n');
    const { exitCode, stderr } = await evaluate(
      'odd',
      '--cfg_path',
      join(folder, 'odd.yaml'),
      ...SHORT,
    );
    expect(exitCode).toBe(0);
    expect(stderr).toMatch(/odd\.yaml:2:1: unknown key lenght is ignored.*length/);
  });

  it.each([
    [['--modes', 'blind'], /no mode "blind". Use query-aware/],
    [['--device', 'cpu', '0'], /CPU and GPUs cannot share a run/],
    [['--gp_num', '2/3'], /gp_num is "2\/3"/],
    [
      ['--endpoint', 'http://localhost:1/v1', '--acceleration', 'SnapKV'],
      /a server decides itself/,
    ],
    [['--benchmark', 'NLL', '--tasks', 'x'], /--tasks says nothing to NLL/],
    [['--benchmark', 'NLL', '--modes', 'second-turn'], /--modes says nothing to NLL/],
    [['--data-path', '/tmp'], /--data-path says nothing to RULER/],
    [['--endpoint', 'http://localhost:1/v1', '--strict'], /a server decides itself/],
    [
      ['--queue', 'redis://localhost:1', '--device', '0'],
      /--device and --gp-num are about models of this machine/,
    ],
    [['--budgets', '0'], /"0" is not a budget/],
    [['--template', 'lama3'], /no template "lama3".*llama3/],
  ])('refuses %j', async (argv, message) => {
    const { exitCode, stderr } = await evaluate('refused', ...argv);
    expect(exitCode).not.toBe(0);
    expect(stderr).toMatch(message);
  });
});
