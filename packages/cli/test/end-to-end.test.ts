import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { accel } from './fake-io.js';

/** A needle as RULER writes it, hidden among noise; the embedded model is made to find it. */
const NOISE =
  'The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n';
const PROMPT =
  'A special magic number is hidden within the following text. Make sure to memorize it. ' +
  'I will quiz you about the number afterwards.\n' +
  NOISE.repeat(12) +
  'One of the special magic numbers for quiet-harbor is: 4819205.\n' +
  NOISE.repeat(12) +
  'What is the special magic number for quiet-harbor mentioned in the provided text? ' +
  'The special magic number for quiet-harbor mentioned in the provided text is';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'accel-cli-e2e-'));
});
afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

describe('accel generate', () => {
  it('finds a needle in a piped prompt', async () => {
    const { exitCode, stdout, stderr } = await accel(['generate', '--max_tokens', '16'], {
      stdin: PROMPT,
    });
    expect(stderr).toBe('');
    expect(stdout).toContain('4819205');
    expect(exitCode).toBe(0);
  });

  it('still finds it in a compressed cache, and the receipt says so', async () => {
    const { exitCode, stdout } = await accel(
      [
        'generate',
        '--acceleration',
        'snapkv',
        '--config',
        `snapkv=${await budget(128)}`,
        '--max-tokens',
        '16',
        '--strict',
        '--json',
      ],
      { stdin: PROMPT },
    );
    expect(exitCode).toBe(0);
    const result = JSON.parse(stdout) as {
      text: string;
      promptTokens: number;
      finish: string;
      receipt: {
        kv: { measuredBytes: number; fullBytes: number };
        policy: { parts: { id: string }[] };
      };
    };
    expect(result.text).toContain('4819205');
    expect(result.receipt.policy.parts.map((part) => part.id)).toEqual(['snapkv']);
    expect(result.promptTokens).toBeGreaterThan(400);
    expect(result.receipt.kv.measuredBytes).toBeLessThan(result.receipt.kv.fullBytes / 4);
  });

  it('prints a receipt on standard error', async () => {
    const { stderr } = await accel(['generate', PROMPT, '--max-tokens', '2', '--receipt']);
    expect(stderr).toMatch(/layer {2}rows in {2}rows stored/);
    expect(stderr).toMatch(/KV cache .* measured, .* by arithmetic/);
    expect(stderr).toMatch(/policy +full \(no method\)/);
  });

  it('gives the same text for the same seed', async () => {
    const argv = [
      'generate',
      PROMPT.slice(0, 600),
      '--temperature',
      '1',
      '--seed',
      '7',
      '--max-tokens',
      '24',
    ];
    const [first, second] = [await accel(argv), await accel(argv)];
    expect(first.stdout).toBe(second.stdout);
    expect(first.exitCode).toBe(0);
  });

  it('ends at a stop text, which is not printed', async () => {
    const { stdout } = await accel(['generate', PROMPT, '--stop', '205', '--max-tokens', '16']);
    expect(stdout).toContain('4819');
    expect(stdout).not.toContain('205');
  });

  it('stops when interrupted', async () => {
    const { exitCode, stderr } = await accel(['generate', PROMPT], { signal: AbortSignal.abort() });
    expect(exitCode).toBe(130);
    expect(stderr).toBe('stopped\n');
  });
});

describe('accel eval', () => {
  const argv = (...more: string[]): string[] => [
    ...['eval', '--tasks', 'niah_single_1', '--lengths', '512', '--limit', '2'],
    ...['--output_dir', folder, '--save_tag', 'run', '--no-report', ...more],
  ];

  it('scores methods, prints a table and writes records and summaries', async () => {
    const { exitCode, stdout, stderr } = await accel(argv('--acceleration', 'full'));
    expect(exitCode, stderr).toBe(0);
    expect(stdout).toMatch(/^Method +Length +Score/);
    expect(stdout).toMatch(/^full +512 +100\.0/m);
    const records = (await readFile(join(folder, 'run', 'records.jsonl'), 'utf8'))
      .trim()
      .split('\n');
    expect(records).toHaveLength(3);
    const summary = JSON.parse(await readFile(join(folder, 'run', 'summary.json'), 'utf8')) as {
      averages: { method: string; n: number }[];
    };
    expect(summary.averages).toMatchObject([{ method: 'full', n: 2 }]);
    expect(existsSync(join(folder, 'run', 'summary.csv'))).toBe(true);
  });

  it('continues a run with another method, without doing the first again', async () => {
    const { exitCode, stdout, stderr } = await accel(
      argv('--acceleration', 'full,STREAMINGLLM', '--resume'),
    );
    expect(exitCode, stderr).toBe(0);
    expect(stdout).toMatch(/^StreamingLLM +512/m);
    const records = (await readFile(join(folder, 'run', 'records.jsonl'), 'utf8'))
      .trim()
      .split('\n');
    expect(records).toHaveLength(5);
  });
});

const bin = resolve(import.meta.dirname, '../bin/accel.js');
const built = existsSync(resolve(import.meta.dirname, '../dist/bin.js'));

describe.skipIf(!built)('the built command (needs dist, made by pnpm build)', () => {
  it('answers a piped prompt in a process of its own', async () => {
    const { code, stdout } = await spawned(['generate', '--max-tokens', '16'], PROMPT);
    expect(stdout).toContain('4819205');
    expect(code).toBe(0);
  });

  it('ends with 130 on Ctrl-C, and leaves finished records', async () => {
    const child = [
      'eval',
      '--lengths',
      '2048',
      '--limit',
      '50',
      '--output-dir',
      folder,
      '--save-tag',
      'cut',
    ];
    const { code, stderr } = await spawned(child, '', async (running) => {
      const file = join(folder, 'cut', 'records.jsonl');
      // The header and one record are there: the run is under way.
      while ((await readFile(file, 'utf8').catch(() => '')).split('\n').length < 3) {
        await new Promise((done) => setTimeout(done, 50));
      }
      running.kill('SIGINT');
    });
    expect(code).toBe(130);
    expect(stderr).toContain('--save-tag cut --resume');
    const lines = (await readFile(join(folder, 'cut', 'records.jsonl'), 'utf8')).split('\n');
    expect(lines.pop()).toBe('');
    for (const line of lines) expect(() => JSON.parse(line) as unknown).not.toThrow();
    expect(existsSync(join(folder, 'cut', 'summary.json'))).toBe(false);
  });
});

async function spawned(
  argv: readonly string[],
  stdin: string,
  meanwhile?: (child: ReturnType<typeof spawn>) => Promise<void>,
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, [bin, ...argv], { stdio: 'pipe' });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  child.stdin.end(stdin);
  const ended = new Promise<number | null>((done) => child.on('close', done));
  await Promise.race([meanwhile?.(child), ended]);
  return { code: await ended, stdout, stderr };
}

async function budget(tokens: number): Promise<string> {
  const path = join(folder, `budget-${tokens}.yaml`);
  // Every digit is a token of its own in this vocabulary: votes must reach a whole number.
  await writeFile(path, `budget:\n  tokens: ${tokens}\npool:\n  kind: max\n  size: 15\n`);
  return path;
}
