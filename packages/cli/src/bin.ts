/** Entry point of the `accel` command: connects the process's streams and signals to {@link run}. */
import process from 'node:process';
import { run } from './main.js';

const interrupt = new AbortController();
process.on('SIGINT', () => {
  // The first Ctrl-C lets the command stop by itself and clean up; the second does not wait for that.
  if (interrupt.signal.aborted) process.exit(130);
  interrupt.abort();
});

// A reader that has seen enough (`accel methods | head -1`) closes the pipe: no reason to complain.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0);
    throw error;
  });
}

process.exitCode = await run(process.argv.slice(2), {
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  env: process.env,
  signal: interrupt.signal,
});
