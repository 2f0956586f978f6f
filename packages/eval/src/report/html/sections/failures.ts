import { isFailed } from '../../../runner/records.js';
import type { FailedRecord } from '../../../runner/records.js';
import { answered } from '../../figures.js';
import type { Grid } from '../../grid.js';
import type { LoadedRun } from '../../read-run.js';
import { seriesOf } from '../../series.js';
import { groupBy } from '../../summary.js';
import { tableHtml } from '../elements.js';
import type { Section, SectionContext } from './section.js';

/** Records without an answer, and fallbacks that ran. Says so when there are none. */
export function failuresSection({ runs }: SectionContext): Section {
  const failures = failureGrid(runs);
  const fallbacks = fallbackGrid(runs);
  return {
    id: 'failures',
    title: 'Failures and fallbacks',
    body: [
      failures.rows.length === 0
        ? '<p>Every record that was made has an answer.</p>'
        : tableHtml(failures),
      fallbacks.rows.length === 0 ? '<p>No fallback ran.</p>' : tableHtml(fallbacks),
    ].join('\n'),
  };
}

function failureGrid(runs: readonly LoadedRun[]): Grid {
  return {
    title: 'Records without an answer',
    labels: 2,
    head: ['Method', 'Code', 'Records', 'Tasks and lengths', 'First message'],
    rows: seriesOf(runs).flatMap(({ run, method, label }) => {
      const failed = run.records.filter(
        (record): record is FailedRecord => isFailed(record) && record.method === method,
      );
      return [...groupBy(failed, ({ failure }) => failure.code)].map(([code, list]) => [
        label,
        code,
        String(list.length),
        [...new Set(list.map(({ task, length }) => `${task} ${length ?? ''}`.trim()))].join(', '),
        list[0]?.failure.message ?? '',
      ]);
    }),
  };
}

function fallbackGrid(runs: readonly LoadedRun[]): Grid {
  return {
    title: 'Fallbacks that ran',
    labels: 2,
    head: ['Method', 'Fallback', 'Records'],
    rows: seriesOf(runs).flatMap(({ run, method, label }) => {
      const fallbacks = answered(run.records)
        .filter((record) => record.method === method)
        .flatMap(({ receipt }) => receipt?.fallbacks ?? []);
      return [...groupBy(fallbacks, (name) => name)].map(([name, list]) => [
        label,
        name,
        String(list.length),
      ]);
    }),
  };
}
