import { groupBy } from './summary.js';
import { gridMarkdown } from './grid.js';
import type { LoadedRun } from './read-run.js';
import { lengthsOf } from './series.js';
import { groupGrid, scoreGrid, taskGrid } from './tables.js';

/** Runs as Markdown tables, one benchmark after another, runs of a benchmark side by side. */
export function formatMarkdown(runs: readonly LoadedRun[]): string {
  const sections = [...groupBy(runs, ({ summary }) => summary.benchmark)].map(([name, group]) => {
    const groups = groupGrid(group);
    const grids = [
      scoreGrid(group),
      ...(groups === undefined ? [] : [groups]),
      ...lengthsOf(group).map((length) => taskGrid(group, length)),
    ];
    return [`### ${name}`, ...group.map(describe), ...grids.map(gridMarkdown)].join('\n\n');
  });
  return `${sections.join('\n\n')}\n\nIn parentheses: 95 % confidence intervals. A dash: no answer, or not run.\n`;
}

function describe({ name, run, summary }: LoadedRun): string {
  const { expected, answered, failed } = summary.records;
  const devices = [...new Set(run.calls.flatMap(({ hardware }) => hardware.devices))].join(', ');
  const failures = failed === 0 ? '' : `, ${failed} failed`;
  return `${name}: ${run.settings.model} on ${devices}; ${answered} of ${expected} records${failures}.`;
}
