import { formatLength } from '../../format.js';
import { answered } from '../../figures.js';
import type { LoadedRun } from '../../read-run.js';
import { cellOf, lengthsOf, modesOf, seriesOf, tasksOf } from '../../series.js';
import { meanOf } from '../../statistics.js';
import { groupBy } from '../../summary.js';
import type { Chart } from '../render-chart.js';
import { columnsOf } from './columns.js';
import { heatmapChart } from './heatmap.js';
import type { HeatCell, HeatmapOptions } from './heatmap.js';

/** Pixels of a cell with a number in it. */
const STEP = { x: 34, y: 20 };
const SCORE: HeatmapOptions['value'] = { title: 'score', most: 100, format: '.0f' };

/** Scores of tasks: against lengths, a map for each method; against methods where there is one length. A chart a mode. */
export function taskHeatmaps(runs: readonly LoadedRun[]): Chart[] {
  const series = seriesOf(runs);
  const lengths = lengthsOf(runs);
  const tasks = tasksOf(runs);
  const several = lengths.length > 1;
  const labels = series.map(({ label }) => label);
  const single = lengths[0] === null ? 'all lengths' : formatLength(lengths[0] ?? null);
  return modesOf(runs).map((mode) => {
    const cells = series.flatMap((column) =>
      lengths.flatMap((length) =>
        tasks.flatMap((task): HeatCell[] => {
          const score = cellOf(column, mode, length, task)?.score ?? null;
          if (score === null) return [];
          const at = formatLength(length);
          const [panel, x] = several ? [column.label, at] : [single, column.label];
          return [{ panel, x, y: task, value: score }];
        }),
      ),
    );
    return heatmapChart(cells, {
      title: `Scores of tasks, ${mode}`,
      description: `Mean score of each task and ${several ? 'length, a map for each method' : 'method'}. The tables above hold the same numbers.`,
      x: several
        ? { title: 'length', order: lengths.map(formatLength) }
        : { title: 'method', order: labels },
      y: { title: 'task', order: tasks },
      panels: several ? labels : [single],
      columns: several ? columnsOf(labels.length, lengths.length * STEP.x) : 1,
      value: SCORE,
      step: STEP,
      numbers: true,
    });
  });
}

/** A needle's score by length and depth, a map for each method, a chart for each mode. */
export function needleHeatmaps(runs: readonly LoadedRun[]): Chart[] {
  const series = seriesOf(runs);
  const depths = new Set<number>();
  const charts = modesOf(runs).map((mode) => {
    const cells = series.flatMap(({ run, method, label }) => {
      const records = answered(run.records).filter(
        (record) => record.method === method && record.mode === mode,
      );
      const groups = groupBy(records, ({ length, facts }) =>
        JSON.stringify([length, facts?.depth]),
      );
      return [...groups.values()].flatMap((group): HeatCell[] => {
        const depth = group[0]?.facts?.depth;
        if (typeof depth !== 'number') return [];
        depths.add(depth);
        return [
          {
            panel: label,
            x: formatLength(group[0]?.length ?? null),
            y: depthLabel(depth),
            value: meanOf(group.map(({ score }) => score)),
          },
        ];
      });
    });
    return { mode, cells };
  });
  const lengths = lengthsOf(runs).map(formatLength);
  const step = lengths.length > 20 ? 14 : STEP.x;
  return charts.map(({ mode, cells }) =>
    heatmapChart(cells, {
      title: `Needle in a haystack, ${mode}`,
      description:
        'Mean score by the length of the text and the depth at which the needle stands, a map for each method.',
      x: { title: 'length', order: lengths },
      y: { title: 'depth', order: [...depths].sort((a, b) => a - b).map(depthLabel) },
      panels: series.map(({ label }) => label),
      columns: columnsOf(series.length, lengths.length * step),
      value: SCORE,
      step: { x: step, y: STEP.y },
      numbers: step === STEP.x,
    }),
  );
}

/** Percent of the text, as axes show it. */
function depthLabel(depth: number): string {
  return `${Math.round(depth * 10) / 10} %`;
}
