import { inspect } from 'node:util';
import { AccelError } from '@accel/core';
import { CommanderError } from 'commander';
import type { Colors } from './ui/colors.js';

/** The command line itself is wrong: exit code 2, and a pointer to the help. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** Exit codes of the program. */
export const exitCodes = {
  /** Done. */
  ok: 0,
  /** The work failed: an AccelError, or a defect. */
  failed: 1,
  /** The command line could not be understood. */
  usage: 2,
  /** Stopped by Ctrl-C: 128 + SIGINT, what shells expect. */
  interrupted: 130,
} as const;

/** How an error leaves the program. */
export interface ErrorReport {
  readonly exitCode: number;
  /** What to print on standard error, with a newline at the end; empty when it was printed already. */
  readonly text: string;
}

/** What {@link describeError} needs to know beside the error. */
export interface DescribeOptions {
  readonly colors: Colors;
  /** Print stacks and causes; default false. */
  readonly debug?: boolean;
  /** Ctrl-C was pressed, so an abort is what the user asked for. */
  readonly interrupted?: boolean;
}

/**
 * Turns whatever was thrown into text and an exit code.
 *
 * An AccelError prints as `error CODE: message` and no stack: its message already says what to do.
 * Anything else is a defect of the toolkit and says so.
 */
export function describeError(error: unknown, options: DescribeOptions): ErrorReport {
  const { colors, debug = false, interrupted = false } = options;
  if (error instanceof CommanderError) {
    // Commander has printed its message (or the help that was asked for) through the configured output.
    return { exitCode: error.exitCode === 0 ? exitCodes.ok : exitCodes.usage, text: '' };
  }
  const label = colors.red(colors.bold('error'));
  if (error instanceof UsageError) {
    const hint = 'accel --help and accel <command> --help list what there is.';
    return {
      exitCode: exitCodes.usage,
      text: `${label}: ${error.message}\n${colors.dim(hint)}\n${stackOf(error, debug)}`,
    };
  }
  if (AccelError.isInstance(error)) {
    if (interrupted && error.code === 'ERR_ACCEL_ABORTED') {
      return { exitCode: exitCodes.interrupted, text: `${colors.dim('stopped')}\n` };
    }
    return {
      exitCode: exitCodes.failed,
      text: `${label} ${colors.bold(error.code)}: ${error.message}\n${stackOf(error, debug)}`,
    };
  }
  if (interrupted && error instanceof Error && error.name === 'AbortError') {
    return { exitCode: exitCodes.interrupted, text: `${colors.dim('stopped')}\n` };
  }
  const message = error instanceof Error ? error.message : String(error);
  const hint = debug
    ? ''
    : `${colors.dim('This is a defect of the toolkit. --debug shows where it happened.')}\n`;
  return {
    exitCode: exitCodes.failed,
    text: `${label}: ${message}\n${hint}${stackOf(error, debug)}`,
  };
}

/** The stack of an error and of its causes, or nothing. */
function stackOf(error: unknown, wanted: boolean): string {
  if (!wanted) return '';
  if (!(error instanceof Error)) return `${inspect(error)}\n`;
  const cause = error.cause === undefined ? '' : `caused by: ${stackOf(error.cause, true)}`;
  return `${error.stack ?? String(error)}\n${cause}`;
}
