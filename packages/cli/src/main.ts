import { normaliseArgv } from './argv.js';
import { describeError } from './errors.js';
import type { Io } from './io.js';
import { createProgram } from './program.js';
import { colorsFor } from './ui/colors.js';

/**
 * Runs the `accel` command.
 *
 * Errors are printed, not thrown.
 *
 * @param argv arguments after the program's name, in kebab-case or snake_case
 * @param io streams, environment and the signal of Ctrl-C
 * @returns the exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted
 */
export async function run(argv: readonly string[], io: Io): Promise<number> {
  const normalised = normaliseArgv(argv);
  const program = createProgram(io);
  try {
    await program.parseAsync(normalised, { from: 'user' });
    return 0;
  } catch (error) {
    const report = describeError(error, {
      colors: colorsFor(io.stderr, io.env),
      // Not read from the parsed options: parsing may be what failed.
      debug: normalised.includes('--debug'),
      interrupted: io.signal.aborted,
    });
    io.stderr.write(report.text);
    return report.exitCode;
  }
}
