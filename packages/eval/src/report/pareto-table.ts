import type { Metric } from '../benchmark/types.js';
import { formatBytes, formatInterval, formatLength, formatScore } from './format.js';
import { gridText } from './grid.js';
import type { Grid } from './grid.js';
import { MODES } from '../prompt/modes.js';
import { COSTS, paretoPoints } from './pareto.js';
import type { Cost, ParetoPoint } from './pareto.js';
import type { LoadedRun } from './read-run.js';

/** Points by mode and length, cheapest first; `✓` marks those that no other beats. */
export function paretoGrid(points: readonly ParetoPoint[], cost: Cost, unit: Metric['unit']): Grid {
  const [modes, runs] = [
    new Set(points.map(({ mode }) => mode)).size > 1,
    new Set(points.map(({ run }) => run)).size > 1,
  ];
  const sorted = [...points].sort(
    (a, b) =>
      MODES.indexOf(a.mode) - MODES.indexOf(b.mode) ||
      (a.length ?? 0) - (b.length ?? 0) ||
      a.cost - b.cost,
  );
  return {
    title: cost === 'kvBytes' ? 'Score against KV cache' : 'Score against time of a record',
    labels: 2 + Number(modes) + Number(runs),
    head: [
      ...(modes ? ['Mode'] : []),
      'Length',
      ...(runs ? ['Run'] : []),
      'Method',
      cost === 'kvBytes' ? 'KV cache' : 'Seconds',
      'Score',
      'Unbeaten',
    ],
    rows: sorted.map((point) => [
      ...(modes ? [point.mode] : []),
      formatLength(point.length),
      ...(runs ? [point.run] : []),
      point.method,
      cost === 'kvBytes' ? formatBytes(point.cost) : point.cost.toFixed(3),
      { text: formatScore(point.score, unit), note: formatInterval(point.ci95, unit) },
      point.efficient ? '✓' : '',
    ]),
  };
}

/** Both tables of a run's trade-offs as text: score against memory, and against time. Empty without costs. */
export function formatPareto(runs: readonly LoadedRun[]): string {
  return COSTS.flatMap((cost) => {
    const points = paretoPoints(runs, cost);
    const grid = paretoGrid(points, cost, runs[0]?.summary.unit);
    return points.length === 0 ? [] : [`${grid.title}\n\n${gridText(grid)}`];
  }).join('\n\n');
}
