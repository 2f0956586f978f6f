import { Command } from 'commander';
import type { Io } from '../io.js';
import { describeMethods } from '../methods/matrix.js';
import { colorsFor } from '../ui/colors.js';
import { renderMethods } from '../ui/methods.js';

/** `accel methods`: what can be given to `--acceleration`, and what goes together. */
export function methodsCommand(io: Io): Command {
  return new Command('methods')
    .summary('list the acceleration methods and which go together')
    .description(
      'List the acceleration methods: what they act on, where they run, and which go together.\n' +
        'Installed packages describe themselves, and every pair of them is tried.',
    )
    .option('--json', 'print JSON')
    .action(async (options: { json?: boolean }) => {
      const methods = await describeMethods();
      io.stdout.write(
        options.json === true
          ? `${JSON.stringify(methods, null, 2)}\n`
          : renderMethods(methods, colorsFor(io.stdout, io.env)),
      );
    });
}
