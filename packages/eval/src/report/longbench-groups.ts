import type { Metric } from '../benchmark/types.js';
import { baseName, LENGTH_BINS, lengthBin, LONGBENCH_CATEGORIES } from '../longbench/tasks.js';
import type { RunRecord } from '../runner/records.js';
import { answered, figuresOf } from './figures.js';
import { equalWeights } from './summary.js';
import type { SummaryGroup, SummaryKey } from './summary.js';

interface TaskRecords {
  readonly task: string;
  readonly records: readonly RunRecord[];
}

/**
 * LongBench's categories, and for tasks of LongBench-E its bins of text length, as far as a run has any of them. A
 * failed record does not tell how long its text is, so bins are of answers only.
 */
export function longBenchGroups(
  key: SummaryKey,
  tasks: readonly TaskRecords[],
  unit: NonNullable<Metric['unit']>,
): SummaryGroup[] {
  const isExtended = ({ task }: TaskRecords): boolean => task !== baseName(task);
  const group = (name: string, parts: readonly TaskRecords[]): SummaryGroup[] =>
    parts.length === 0 ? [] : [{ ...key, group: name, ...figuresOf(equalWeights(parts), unit) }];
  const categories = (parts: readonly TaskRecords[], suffix: string): SummaryGroup[] =>
    [...LONGBENCH_CATEGORIES].flatMap(([category, names]) =>
      group(
        `${category}${suffix}`,
        parts.filter(({ task }) => names.includes(baseName(task))),
      ),
    );
  const extended = tasks.filter(isExtended);
  return [
    ...categories(
      tasks.filter((part) => !isExtended(part)),
      '',
    ),
    ...categories(extended, ' (E)'),
    ...LENGTH_BINS.flatMap((bin) =>
      group(
        `${bin} (E)`,
        extended
          .map(({ task, records }) => ({ task, records: answered(records).filter(isIn(bin)) }))
          .filter(({ records }) => records.length > 0),
      ),
    ),
  ];
}

function isIn(bin: string): (record: { facts?: { words?: unknown } | undefined }) => boolean {
  return ({ facts }) => typeof facts?.words === 'number' && lengthBin(facts.words) === bin;
}
