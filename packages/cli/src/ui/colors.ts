import picocolors from 'picocolors';
import type { Io, Output } from '../io.js';

/** Functions that colour a text, or leave it as it is where colour is unwanted. */
export type Colors = ReturnType<typeof picocolors.createColors>;

/**
 * Colours for one stream: on for a terminal, off when piped; `NO_COLOR` and `FORCE_COLOR` win over both.
 */
export function colorsFor(output: Output, env: Io['env']): Colors {
  return picocolors.createColors(wantsColor(output, env));
}

function wantsColor(output: Output, env: Io['env']): boolean {
  if ((env['NO_COLOR'] ?? '') !== '') return false;
  if ((env['FORCE_COLOR'] ?? '') !== '') return env['FORCE_COLOR'] !== '0';
  return output.isTTY === true && env['TERM'] !== 'dumb';
}
