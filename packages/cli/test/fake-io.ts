import { Readable } from 'node:stream';
import { run } from '../src/main.js';
import type { Io } from '../src/io.js';

/** What a command printed and how it ended. */
export interface Outcome {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the command in this process, with texts for streams. */
export async function accel(
  argv: readonly string[],
  options: {
    stdin?: string;
    tty?: boolean;
    signal?: AbortSignal;
    env?: Io['env'];
  } = {},
): Promise<Outcome> {
  let stdout = '';
  let stderr = '';
  const { tty = false } = options;
  const stdin = Object.assign(Readable.from(options.stdin === undefined ? [] : [options.stdin]), {
    isTTY: options.stdin === undefined,
  });
  const io: Io = {
    stdin,
    stdout: { write: (text) => (stdout += text), isTTY: tty, columns: 100 },
    stderr: { write: (text) => (stderr += text), isTTY: tty, columns: 100 },
    env: { NO_COLOR: '1', ...options.env },
    signal: options.signal ?? new AbortController().signal,
  };
  const exitCode = await run(argv, io);
  return { exitCode, stdout, stderr };
}
