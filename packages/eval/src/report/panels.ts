import type { Mode } from '../prompt/modes.js';
import { formatLength } from './format.js';
import type { LoadedRun } from './read-run.js';
import { lengthsOf, modesOf } from './series.js';

/** One of the small charts that stand side by side: a length, and a mode where there are several. */
export interface Panel {
  readonly label: string;
  readonly mode: Mode;
  readonly length: number | null;
}

/** All lengths in all modes, in the order of reports. */
export function panelsOf(runs: readonly LoadedRun[]): Panel[] {
  const modes = modesOf(runs);
  return modes.flatMap((mode) =>
    lengthsOf(runs).map((length) => ({
      label: panelLabel(length, modes.length > 1 ? mode : undefined),
      mode,
      length,
    })),
  );
}

/** `4K, query-aware`; only what tells panels apart. */
function panelLabel(length: number | null, mode: Mode | undefined): string {
  const name = length === null ? 'all lengths' : `${formatLength(length)} tokens`;
  return mode === undefined ? name : `${name}, ${mode}`;
}
