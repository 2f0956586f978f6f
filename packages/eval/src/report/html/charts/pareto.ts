import type { TopLevelSpec } from 'vega-lite';
import type { Cost, ParetoPoint } from '../../pareto.js';
import type { LoadedRun } from '../../read-run.js';
import type { Panel } from '../../panels.js';
import type { Chart } from '../render-chart.js';
import { byPanel } from './facets.js';

const WIDTH = 260;

/**
 * Scores against their cost, a panel for each length and mode; points that no other beats are filled and joined.
 * Undefined when nothing has a cost.
 */
export function paretoChart(
  runs: readonly LoadedRun[],
  points: readonly ParetoPoint[],
  cost: Cost,
  panels: readonly Panel[],
): Chart | undefined {
  if (points.length === 0) return undefined;
  const nats = runs[0]?.summary.unit === 'nats';
  const unit = cost === 'kvBytes' ? 2 ** 20 : 1;
  const named = readable(points);
  const values = points.map((point) => ({
    method: runs.length > 1 ? `${point.run}: ${point.method}` : point.method,
    panel: panels.find(({ mode, length }) => mode === point.mode && length === point.length)?.label,
    cost: point.cost / unit,
    score: point.score,
    low: point.ci95?.[0] ?? null,
    high: point.ci95?.[1] ?? null,
    efficient: point.efficient,
    named: named.has(point),
  }));
  const x = {
    field: 'cost',
    type: 'quantitative' as const,
    title: cost === 'kvBytes' ? 'KV cache after prefill, MiB' : 'seconds of a record',
    axis: { grid: false },
    // Budgets double and halve; a logarithm of nothing cannot be drawn.
    scale: {
      ...(cost === 'kvBytes' && points.every((point) => point.cost > 0)
        ? { type: 'log' as const }
        : { zero: false }),
      nice: true,
      padding: 20,
    },
  };
  const y = {
    field: 'score',
    type: 'quantitative' as const,
    ...(nats
      ? { title: 'nats a token', scale: { zero: false } }
      : // Room above 100 for the names of points.
        {
          title: 'score',
          scale: { domain: [0, 110] },
          axis: { values: [0, 20, 40, 60, 80, 100] },
        }),
  };
  const spec: TopLevelSpec = {
    ...byPanel(panels, values, WIDTH),
    resolve: { scale: { x: 'independent' } },
    spec: {
      width: WIDTH,
      height: 240,
      encoding: { x },
      layer: [
        {
          transform: [{ filter: 'datum.low !== null' }],
          mark: { type: 'rule', opacity: 0.35, color: 'currentColor' },
          encoding: { y: { ...y, field: 'low' }, y2: { field: 'high' } },
        },
        {
          transform: [{ filter: 'datum.efficient' }],
          mark: { type: 'line', interpolate: 'step-after', color: '#e69f00', strokeWidth: 2 },
          encoding: { y },
        },
        {
          mark: { type: 'point', size: 60, opacity: 1, color: '#0072b2', strokeWidth: 1.5 },
          encoding: {
            y,
            fill: {
              condition: { test: 'datum.efficient', value: '#e69f00' },
              value: 'transparent',
            },
          },
        },
        {
          transform: [{ filter: 'datum.named' }],
          mark: { type: 'text', align: 'left', dx: 7, dy: -7, fontSize: 10, color: 'currentColor' },
          encoding: { y, text: { field: 'method', type: 'nominal' } },
        },
      ],
    },
  };
  return {
    title: cost === 'kvBytes' ? 'Score against KV cache' : 'Score against time',
    description: `Each point is a method: ${cost === 'kvBytes' ? 'bytes of the cache after prefill' : 'mean seconds of a record'} and ${nats ? 'mean nats a token (less is better)' : 'mean score'} with its 95 % interval. Filled points, joined by the line, are beaten by no other. Names that would cover others are left out; the table has them.`,
    spec,
  };
}

/** Shares of a chart's width and height that a name takes. */
const NAME = { width: 0.3, height: 0.06 };

/** Points whose names can stand in the chart without covering another: unbeaten ones first, then from the top. */
function readable(points: readonly ParetoPoint[]): Set<ParetoPoint> {
  const placed = new Set<ParetoPoint>();
  const rank = (point: ParetoPoint): number => (point.efficient ? 0 : 1);
  const sorted = [...points].sort((a, b) => rank(a) - rank(b) || b.score - a.score);
  for (const point of sorted) {
    const panel = points.filter(
      ({ mode, length }) => mode === point.mode && length === point.length,
    );
    const place = (of: ParetoPoint): { x: number; y: number } => ({
      x: share(
        Math.log(of.cost),
        panel.map(({ cost }) => Math.log(cost)),
      ),
      y: share(
        of.score,
        panel.map(({ score }) => score),
      ),
    });
    const { x, y } = place(point);
    const covered = panel.filter((other) => placed.has(other)).map(place);
    if (covered.every((p) => Math.abs(p.x - x) > NAME.width || Math.abs(p.y - y) > NAME.height)) {
      placed.add(point);
    }
  }
  return placed;
}

/** Where a value lies between the least and the most of some. */
function share(value: number, values: readonly number[]): number {
  const least = Math.min(...values);
  const range = Math.max(...values) - least;
  return range > 0 ? (value - least) / range : 0;
}
