import { formatBytes, formatOr, NONE } from './format.js';
import type { Grid } from './grid.js';
import { panelsOf } from './panels.js';
import type { LoadedRun } from './read-run.js';
import { averageOf, modesOf, seriesOf } from './series.js';
import type { Series } from './series.js';
import type { SummaryAverage } from './summary.js';

/** Mean time and memory of a record, a row for each method, length and mode. */
export function costGrid(runs: readonly LoadedRun[]): Grid {
  return perAverage(
    runs,
    'Time and memory of a record',
    ['Prefill s', 'Decode s', 'Decode tok/s', 'KV cache', 'Arithmetic', 'Uncompressed', 'Of full'],
    ({ prefillSeconds, decodeSeconds, decodeTokensPerSecond, kv }) => [
      formatOr(prefillSeconds, (seconds) => seconds.toFixed(3)),
      formatOr(decodeSeconds, (seconds) => seconds.toFixed(3)),
      formatOr(decodeTokensPerSecond, (rate) => rate.toFixed(1)),
      formatOr(kv?.measuredBytes, formatBytes),
      formatOr(kv?.arithmeticBytes, formatBytes),
      formatOr(kv?.fullBytes, formatBytes),
      formatOr(kv, ({ measuredBytes, fullBytes }) => percent(measuredBytes / fullBytes)),
    ],
  );
}

/** What was evicted, skipped and done: rows, blocks, and how often each part acted on a record. */
export function evictionGrid(runs: readonly LoadedRun[]): Grid {
  return perAverage(
    runs,
    'Rows kept and parts that acted',
    ['Prompt tokens', 'Rows in', 'Rows kept', 'Kept', 'Blocks computed', 'Acted on a record'],
    ({ promptTokens, rowsIn, rowsStored, density, acted, n }) => [
      formatOr(promptTokens, (tokens) => tokens.toFixed(0)),
      formatOr(rowsIn, (rows) => rows.toFixed(0)),
      formatOr(rowsStored, (rows) => rows.toFixed(0)),
      rowsIn === null || rowsStored === null ? NONE : percent(rowsStored / rowsIn),
      formatOr(density, percent),
      formatOr(acted, (counts) => actedText(counts, n)),
    ],
  );
}

function perAverage(
  runs: readonly LoadedRun[],
  title: string,
  head: readonly string[],
  values: (average: SummaryAverage) => string[],
): Grid {
  const row = (series: Series, label: string, average: SummaryAverage): string[] => [
    label,
    series.label,
    ...values(average),
  ];
  return {
    title,
    labels: 2,
    head: [modesOf(runs).length > 1 ? 'Length, mode' : 'Length', 'Method', ...head],
    rows: panelsOf(runs).flatMap(({ label, mode, length }) =>
      seriesOf(runs).flatMap((series) => {
        const average = averageOf(series, mode, length);
        return average === undefined ? [] : [row(series, label, average)];
      }),
    ),
  };
}

function actedText(counts: Readonly<Record<string, number>>, records: number): string {
  const parts = Object.entries(counts).map(
    ([part, times]) => `${part} ${Number((times / records).toFixed(1))}×`,
  );
  return parts.length === 0 ? 'no parts' : parts.join(', ');
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}
