import type { LoadedRun } from '../../read-run.js';
import { averageOf, seriesOf } from '../../series.js';
import type { Panel } from '../../panels.js';
import type { Chart } from '../render-chart.js';
import { columnsFor } from './columns.js';
import { heatmapChart } from './heatmap.js';
import type { HeatCell } from './heatmap.js';

/** Rows kept in every layer, as a share of the rows that went in; a map for each length and mode. */
export function layerHeatmap(
  runs: readonly LoadedRun[],
  panels: readonly Panel[],
): Chart | undefined {
  const series = seriesOf(runs);
  const cells = panels.flatMap(({ label, mode, length }) =>
    series.flatMap((column) => {
      const figures = averageOf(column, mode, length);
      const rowsIn = figures?.rowsIn ?? null;
      if (figures === undefined || rowsIn === null) return [];
      return (figures.layerRows ?? []).map((rows, layer): HeatCell => ({
        panel: label,
        x: String(layer),
        y: column.label,
        value: rows / rowsIn,
      }));
    }),
  );
  const layers = Math.max(0, ...cells.map(({ x }) => Number(x) + 1));
  if (layers === 0) return undefined;
  const step = layers > 16 ? 12 : 38;
  return heatmapChart(cells, {
    title: 'Rows kept by layer',
    description:
      'Share of the rows that went in which each layer still holds after prefill, mean over its kv heads. 100 % is nothing evicted; the table above has the means over layers.',
    x: { title: 'layer', order: Array.from({ length: layers }, (_, layer) => String(layer)) },
    y: { title: 'method', order: series.map(({ label }) => label) },
    panels: panels.map(({ label }) => label),
    columns: columnsFor(layers * step, panels),
    value: { title: 'kept', most: 1, format: '.0%' },
    step: { x: step, y: 20 },
    numbers: step > 20,
  });
}
