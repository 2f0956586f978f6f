import { Command } from 'commander';
import { calibrateCommand } from './commands/calibrate.js';
import { compareCommand } from './commands/compare.js';
import { dataCommand } from './commands/data.js';
import { devicesCommand } from './commands/devices.js';
import { evalCommand } from './commands/eval.js';
import { generateCommand } from './commands/generate.js';
import { inspectCommand } from './commands/inspect.js';
import { methodsCommand } from './commands/methods.js';
import { pullCommand } from './commands/pull.js';
import { reportCommand } from './commands/report.js';
import { workerCommand } from './commands/worker.js';
import { helpWidth } from './help.js';
import type { Io } from './io.js';
import { colorsFor } from './ui/colors.js';
import { version } from './version.js';

/** Builds the command tree; nothing runs before it parses arguments. */
export function createProgram(io: Io): Command {
  const program = new Command('accel')
    .description(
      'Long-context inference with composable KV-cache acceleration methods.\n' +
        'Without --model-path every command uses the embedded 7M-parameter needle model.',
    )
    .version(version(), '-V, --version', 'print the version')
    .helpCommand('help [command]', 'show the help of a command')
    .option('--debug', 'print the stack of an error')
    .addHelpText(
      'after',
      '\nOptions may be written with dashes or underscores: --model-path and --model_path are the same.',
    );
  program
    .addCommand(generateCommand(io))
    .addCommand(evalCommand(io))
    .addCommand(reportCommand(io))
    .addCommand(compareCommand(io))
    .addCommand(workerCommand(io))
    .addCommand(inspectCommand(io))
    .addCommand(calibrateCommand(io))
    .addCommand(pullCommand(io))
    .addCommand(dataCommand(io))
    .addCommand(methodsCommand(io))
    .addCommand(devicesCommand(io));
  for (const command of family(program)) {
    configure(command, io);
    // Every command takes --debug itself, so it may stand anywhere on the line.
    if (command !== program) command.option('--debug', 'print the stack of an error');
  }
  return program;
}

/** What a user types: `accel data pull`. */
function fullName(command: Command): string {
  return command.parent ? `${fullName(command.parent)} ${command.name()}` : command.name();
}

/** A command with its subcommands and theirs. */
function family(command: Command): Command[] {
  return [command, ...command.commands.flatMap(family)];
}

function configure(command: Command, io: Io): void {
  const colors = colorsFor(io.stderr, io.env);
  command
    .helpOption('-h, --help', 'show this help')
    .exitOverride()
    .showSuggestionAfterError()
    .showHelpAfterError(colors.dim(`(${fullName(command)} --help lists the options)`))
    .configureOutput({
      writeOut: (text) => void io.stdout.write(text),
      writeErr: (text) => void io.stderr.write(text),
      outputError: (text, write) => write(text.replace(/^error/, colors.red(colors.bold('error')))),
      getOutHelpWidth: () => helpWidth(io.stdout),
      getErrHelpWidth: () => helpWidth(io.stderr),
    });
}
