import type { TopLevelSpec } from 'vega-lite';
import type { Chart } from '../render-chart.js';

/** One cell of a heat map. */
export interface HeatCell {
  /** The small map it belongs to. */
  readonly panel: string;
  readonly x: string;
  readonly y: string;
  readonly value: number;
}

/** What a heat map is about. */
export interface HeatmapOptions {
  readonly title: string;
  readonly description: string;
  readonly x: { readonly title: string; readonly order: readonly string[] };
  readonly y: { readonly title: string; readonly order: readonly string[] };
  readonly panels: readonly string[];
  /** Small maps beside each other. */
  readonly columns: number;
  readonly value: { readonly title: string; readonly most: number; readonly format: string };
  /** Pixels of a cell. */
  readonly step: { readonly x: number; readonly y: number };
  /** Whether cells have their number written in them. */
  readonly numbers: boolean;
}

/**
 * Heat maps side by side, one scale for all. Viridis: light is much, even in lightness, readable without colour vision
 * and on paper.
 */
export function heatmapChart(cells: readonly HeatCell[], options: HeatmapOptions): Chart {
  const { title, description, x, y, panels, columns, value, step, numbers } = options;
  const axis = { type: 'nominal' as const, scale: { padding: 0 } };
  const position = {
    x: {
      ...axis,
      field: 'x',
      title: x.title,
      sort: [...x.order],
      axis: {
        grid: false,
        labelAngle: x.order.every((name) => 8 * name.length < step.x) ? 0 : -90,
      },
    },
    y: { ...axis, field: 'y', title: y.title, sort: [...y.order], axis: { grid: false } },
  };
  const spec: TopLevelSpec = {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    data: { values: cells.map((cell) => ({ ...cell })) },
    facet: { field: 'panel', type: 'nominal', title: null, sort: [...panels] },
    columns,
    spec: {
      width: { step: step.x },
      height: { step: step.y },
      layer: [
        {
          mark: { type: 'rect' },
          encoding: {
            ...position,
            color: {
              field: 'value',
              type: 'quantitative',
              title: value.title,
              scale: { scheme: 'viridis', domain: [0, value.most] },
              legend: { format: value.format },
            },
          },
        },
        ...(numbers
          ? [
              {
                mark: { type: 'text' as const, fontSize: 10 },
                encoding: {
                  ...position,
                  text: { field: 'value', type: 'quantitative' as const, format: value.format },
                  color: {
                    condition: { test: `datum.value < ${0.6 * value.most}`, value: '#ffffff' },
                    value: '#000000',
                  },
                },
              },
            ]
          : []),
      ],
    },
  };
  return { title, description, spec };
}
