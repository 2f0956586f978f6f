import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { setTimeout } from 'node:timers/promises';
import { bundle, type Bundle } from './bundle.js';
import type { QueueModel } from '../execute/queue-broker.js';
import type { Job } from '../execute/types.js';

/** The model that the made-up workers have. */
export const FAKE_MODEL: QueueModel = { name: 'fake', files: '0123456789abcdef', dtype: 'float32' };

/** A small job; what its text says is done by the made-up workers (`deadly`, `slow 50`, `strict`, `large`, `defect`). */
export function fakeJob(index: number, text = 'hello'): Job {
  return {
    id: `task_64/${index}/query-aware/full`,
    method: 'full',
    prompt: {
      turns: [{ text, ids: Int32Array.of(index, -1, 2 ** 31 - 1), answer: 8 }],
      stopIds: [2],
      stop: ['\n'],
    },
  };
}

/** Longest time that anything should take on a busy machine. */
const PATIENCE_MS = 20_000;

/** The program `scale-process.ts`, and a folder for what its processes leave behind. */
export class ScaleProcesses {
  readonly folder: string = mkdtempSync(join(tmpdir(), 'accel-scale-'));
  readonly #program: Bundle;
  readonly #children: ChildProcess[] = [];

  private constructor(program: Bundle) {
    this.#program = program;
  }

  static async build(): Promise<ScaleProcesses> {
    // Outside: the bundler itself, and a database that BullMQ can use instead of Redis.
    return new ScaleProcesses(await bundle('scale-process.ts', ['esbuild', 'pg']));
  }

  get script(): string {
    return this.#program.script;
  }

  get env(): Record<string, string> {
    return { ACCEL_TEST_FOLDER: this.folder };
  }

  start(args: readonly string[], env: Readonly<Record<string, string>> = {}): ChildProcess {
    const child = spawn(process.execPath, [this.script, ...args], {
      env: { ...process.env, ...this.env, ...env },
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    this.#children.push(child);
    return child;
  }

  /** Worker processes that were ever started and are alive. */
  workers(): number[] {
    return readdirSync(this.folder)
      .flatMap((name) => (name.startsWith('worker-') ? Number(name.slice('worker-'.length)) : []))
      .filter(isAlive);
  }

  /** One of them, at random. */
  anyWorker(): number {
    const workers = this.workers();
    const pid = workers[Math.floor(Math.random() * workers.length)];
    if (pid === undefined) throw new Error('no worker is alive');
    return pid;
  }

  /** Waits for something that processes bring about. */
  async until(happened: () => boolean): Promise<void> {
    const started = performance.now();
    while (!happened()) {
      if (performance.now() - started > PATIENCE_MS) throw new Error('waited in vain');
      await setTimeout(5);
    }
  }

  /** Waits until workers have answered some more jobs, then a random moment longer. */
  async progress(jobs: number): Promise<void> {
    const before = this.lines('done').length;
    await this.until(() => this.lines('done').length >= before + jobs && this.workers().length > 0);
    await setTimeout(Math.random() * 30);
  }

  /** Lines of a file in the folder; none when it is not there. */
  lines(name: string): string[] {
    try {
      return readFileSync(join(this.folder, name), 'utf8').split('\n').slice(0, -1);
    } catch {
      return [];
    }
  }

  /** Forgets what processes have left behind. */
  clear(): void {
    for (const name of readdirSync(this.folder)) rmSync(join(this.folder, name));
  }

  async end(): Promise<void> {
    for (const child of this.#children) await kill(child);
    rmSync(this.folder, { recursive: true });
    this.#program.remove();
  }
}

/** The exit code with which a process ends. */
export async function exitCode(child: ChildProcess): Promise<number | null> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  return child.exitCode;
}

/** Kills a process as `kill -9` does and waits until it is gone. */
export async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
