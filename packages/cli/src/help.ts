import type { Command } from 'commander';
import type { Output } from './io.js';

/** Width help is wrapped at: the terminal's, at most 110 characters, 100 when there is none. */
export function helpWidth(output: Output): number {
  return Math.min(output.columns ?? 100, 110);
}

/**
 * Appends the list of snake_case spellings to a command's help.
 *
 * Call it after the last option was added.
 */
export function listSnakeCase(command: Command): Command {
  const spellings = command.options
    .filter((option) => !option.hidden)
    .map((option) => option.long)
    .filter((long): long is string => long?.includes('-', 2) ?? false)
    .map((long) => `--${long.slice(2).replaceAll('-', '_')}`);
  if (spellings.length === 0) return command;
  return command.addHelpText('after', () => {
    const lines = wrap(spellings, helpWidth({ write: () => true }) - 2).map((line) => `  ${line}`);
    return `\nAlso accepted, as the original toolkit spells them:\n${lines.join('\n')}`;
  });
}

/** Fills lines of at most `width` characters with words. */
export function wrap(words: readonly string[], width: number): string[] {
  const lines: string[] = [];
  for (const word of words) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= width) {
      lines[lines.length - 1] = `${last} ${word}`;
    } else {
      lines.push(word);
    }
  }
  return lines;
}
