import type { TopLevelSpec } from 'vega-lite';
import type { Comparison } from '../../compare.js';
import type { Panel } from '../../panels.js';
import type { Chart } from '../render-chart.js';
import { byPanel } from './facets.js';

const WIDTH = 240;

/** Mean differences to full attention with their intervals, a panel for each length and mode. */
export function differenceChart(
  comparisons: readonly { label: string; comparison: Comparison }[],
  panels: readonly Panel[],
  unit: 'percent' | 'nats',
): Chart {
  const values = comparisons.flatMap(({ label, comparison: { mode, lengths } }) =>
    lengths.map(({ length, difference, ci95 }) => ({
      panel: panels.find((panel) => panel.mode === mode && panel.length === length)?.label,
      method: label,
      difference,
      low: ci95?.[0] ?? null,
      high: ci95?.[1] ?? null,
    })),
  );
  const title = unit === 'nats' ? 'nats a token more than full' : 'points more than full';
  const x = { field: 'difference', type: 'quantitative' as const, title };
  const y = {
    field: 'method',
    type: 'nominal' as const,
    title: null,
    sort: [...new Set(comparisons.map(({ label }) => label))],
  };
  const spec: TopLevelSpec = {
    ...byPanel(panels, values, WIDTH),
    spec: {
      width: WIDTH,
      height: { step: 20 },
      layer: [
        {
          mark: { type: 'rule', color: 'currentColor', opacity: 0.5 },
          encoding: { x: { datum: 0, type: 'quantitative', title } },
        },
        {
          transform: [{ filter: 'datum.low !== null' }],
          mark: { type: 'rule', color: '#0072b2', strokeWidth: 2 },
          encoding: { x: { ...x, field: 'low' }, x2: { field: 'high' }, y },
        },
        {
          mark: { type: 'point', filled: true, opacity: 1, color: '#0072b2', size: 50 },
          encoding: { x, y },
        },
      ],
    },
  };
  return {
    title: 'Difference to full attention',
    description:
      'Mean difference to full attention on the same samples, with its 95 % bootstrap interval. An interval that leaves out 0 is a difference that chance alone hardly makes.',
    spec,
  };
}
