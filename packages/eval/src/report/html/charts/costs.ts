import type { TopLevelSpec } from 'vega-lite';
import type { LoadedRun } from '../../read-run.js';
import { averageOf, seriesOf } from '../../series.js';
import type { Panel } from '../../panels.js';
import type { Chart } from '../render-chart.js';
import { byPanel } from './facets.js';

const WIDTH = 240;
const MIB = 2 ** 20;

interface Bar {
  readonly panel: string;
  readonly method: string;
  readonly part: string;
  readonly order: number;
  readonly amount: number;
}

/** Mean seconds of a record, prefill and decode stacked. */
export function timeChart(runs: readonly LoadedRun[], panels: readonly Panel[]): Chart {
  const bars = panels.flatMap(({ label, mode, length }) =>
    seriesOf(runs).flatMap((series): Bar[] => {
      const { prefillSeconds, decodeSeconds } = averageOf(series, mode, length) ?? {};
      if (typeof prefillSeconds !== 'number' || typeof decodeSeconds !== 'number') return [];
      const bar = { panel: label, method: series.label };
      return [
        { ...bar, part: 'prefill', order: 0, amount: prefillSeconds },
        { ...bar, part: 'decode', order: 1, amount: decodeSeconds },
      ];
    }),
  );
  return {
    title: 'Time of a record',
    description:
      'Mean seconds of prefill and decode. Answers of these benchmarks are short, so prefill weighs more here than in long generations.',
    spec: stacked(runs, panels, bars, 'seconds of a record', ['prefill', 'decode']),
  };
}

/** Mean bytes of the cache after prefill: rows and what pages hold beyond them; undefined where no engine told. */
export function memoryChart(
  runs: readonly LoadedRun[],
  panels: readonly Panel[],
): Chart | undefined {
  const bars = panels.flatMap(({ label, mode, length }) =>
    seriesOf(runs).flatMap((series): Bar[] => {
      const kv = averageOf(series, mode, length)?.kv ?? null;
      if (kv === null) return [];
      const { measuredBytes, arithmeticBytes, fullBytes } = kv;
      const rows = Math.min(measuredBytes, arithmeticBytes);
      const bar = { panel: label, method: series.label };
      return [
        { ...bar, part: 'rows', order: 0, amount: rows / MIB },
        { ...bar, part: 'rest of pages', order: 1, amount: (measuredBytes - rows) / MIB },
        { ...bar, part: 'saved', order: 2, amount: Math.max(0, fullBytes - measuredBytes) / MIB },
      ];
    }),
  );
  if (bars.length === 0) return undefined;
  return {
    title: 'Memory of the KV cache',
    description:
      'Mean MiB of the cache after prefill: what its rows take, what its pages hold beyond them, and what an uncompressed cache would take more.',
    spec: stacked(runs, panels, bars, 'MiB', ['rows', 'rest of pages', 'saved']),
  };
}

/** Blue, orange, and a grey that stands back. */
const COLORS = ['#0072b2', '#e69f00', '#8a8f9855'];

function stacked(
  runs: readonly LoadedRun[],
  panels: readonly Panel[],
  bars: readonly Bar[],
  title: string,
  parts: readonly string[],
): TopLevelSpec {
  return {
    ...byPanel(panels, bars, WIDTH),
    resolve: { scale: { x: 'independent' } },
    spec: {
      width: WIDTH,
      height: { step: 18 },
      mark: { type: 'bar' },
      encoding: {
        x: { field: 'amount', type: 'quantitative', title, stack: 'zero' },
        y: {
          field: 'method',
          type: 'nominal',
          title: null,
          sort: seriesOf(runs).map(({ label }) => label),
        },
        color: {
          field: 'part',
          type: 'nominal',
          title: null,
          scale: { domain: [...parts], range: COLORS.slice(0, parts.length) },
        },
        order: { field: 'order', type: 'quantitative' },
      },
    },
  };
}
