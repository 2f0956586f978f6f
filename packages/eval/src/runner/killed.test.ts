import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { bundle, type Bundle } from '../testing/bundle.js';

/** Kills that hit a run before it is complete. */
const KILLS = 100;
const SAMPLES = 220;
const RECORDS = 3 * 2 * SAMPLES;
/** A batch takes half of this on average; with two at a time a run takes about 3 s, were it not killed. */
const BATCH_MS = 18;

let program: Bundle;
let folder: string;
beforeAll(async () => {
  program = await bundle('killed-run.ts');
  folder = await mkdtemp(join(tmpdir(), 'accel-kill-'));
});
afterAll(async () => {
  program.remove();
  await rm(folder, { recursive: true });
});

/** @returns whether the run was complete before it was killed */
async function start(
  output: string,
  log: string,
  ms: number,
  killAfter?: number,
): Promise<boolean> {
  const child = spawn(process.execPath, [program.script, output, log, String(ms)], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, SAMPLES: String(SAMPLES) },
  });
  let errors = '';
  child.stderr.on('data', (text: Buffer) => (errors += text.toString()));
  const timer =
    killAfter === undefined ? undefined : setTimeout(() => child.kill('SIGKILL'), killAfter);
  await once(child, 'close');
  clearTimeout(timer);
  expect(errors).toBe('');
  return child.signalCode === null;
}

interface Line {
  readonly id: string;
}

/** Records that are whole in the file. */
async function recordsOf(output: string): Promise<Line[]> {
  const path = join(output, 'records.jsonl');
  if (!existsSync(path)) return [];
  const lines = (await readFile(path, 'utf8')).split('\n').slice(1, -1);
  return lines.map((line) => JSON.parse(line) as Line);
}

async function logged(log: string): Promise<string[]> {
  return existsSync(log) ? (await readFile(log, 'utf8')).split('\n').slice(0, -1) : [];
}

it(`loses and repeats nothing in ${KILLS} random kills`, { timeout: 240_000 }, async () => {
  const whole = join(folder, 'whole');
  expect(await start(whole, join(folder, 'whole.log'), 0)).toBe(true);
  const expected = await recordsOf(whole);
  expect(expected).toHaveLength(RECORDS);

  let kills = 0;
  for (let round = 0; kills < KILLS; round++) {
    const output = join(folder, `killed-${round}`);
    const log = `${output}.log`;
    for (let complete = false; !complete;) {
      const before = new Set((await recordsOf(output)).map(({ id }) => id));
      const answered = (await logged(log)).length;
      const patience = kills < KILLS ? 60 + 180 * Math.random() : undefined;
      complete = await start(output, log, BATCH_MS, patience);
      if (!complete) kills++;
      // Nothing that was on disk is answered again, and nothing that was on disk is gone.
      const again = (await logged(log)).slice(answered).filter((id) => before.has(id));
      expect(again).toEqual([]);
      const after = new Set((await recordsOf(output)).map(({ id }) => id));
      expect([...before].filter((id) => !after.has(id))).toEqual([]);
    }
    expect(await recordsOf(output)).toEqual(expected);
  }
});
