import type { Comparison, ComparisonRow } from './compare.js';
import { formatDifference, formatLength, formatOr, formatP, formatScore, NONE } from './format.js';
import { gridText } from './grid.js';
import type { Grid } from './grid.js';

/** Ids of answers that differ, at most so many in a text. */
const SHOWN = 10;

/** A comparison as a grid: a row for each task and length, and one for all. */
export function comparisonGrid(comparison: Comparison): Grid {
  const unit = comparison.better === 'lower' ? 'nats' : 'percent';
  const row = (name: string, entry: ComparisonRow, corrected: string): string[] => [
    name,
    String(entry.pairs),
    formatScore(entry.baseline, unit),
    formatScore(entry.other, unit),
    formatDifference(entry.difference, unit),
    formatOr(entry.ci95, (interval) => formatRange(interval, unit)),
    `${formatP(entry.p)}${entry.exact ? '' : '*'}`,
    corrected,
    `${entry.wins}/${entry.ties}/${entry.losses}`,
  ];
  return {
    title: `${sideName(comparison, 'other')} against ${sideName(comparison, 'baseline')}, ${comparison.mode}`,
    labels: 1,
    head: [
      'Pairs of',
      'n',
      'Baseline',
      'Other',
      'Difference',
      '95 % CI',
      'p',
      'p (Holm)',
      'Won/tied/lost',
    ],
    rows: [
      ...comparison.tasks.map((task) => row(task.task, task, formatP(task.holm))),
      ...(comparison.lengths.length > 1
        ? comparison.lengths.map((entry) => row(formatLength(entry.length), entry, NONE))
        : []),
      row('all', comparison.overall, NONE),
    ],
  };
}

/** A comparison as text, with what its columns mean. */
export function formatComparison(comparison: Comparison): string {
  const { differing, unpaired, overall, better, tasks } = comparison;
  const sampled = [overall, ...tasks].some(({ exact }) => !exact);
  const more = differing.length - SHOWN;
  const grid = comparisonGrid(comparison);
  return [
    grid.title,
    '',
    gridText(grid),
    '',
    `Difference: other minus baseline; ${better} is better. CI: paired bootstrap, too narrow below some ten pairs a task; ${NONE}: a task has one pair.`,
    `p: sign-flip permutation test, two-sided, all patterns of signs${sampled ? '; *: drawn ones' : ''}.`,
    ...(unpaired > 0
      ? [`Left out: ${unpaired} records without an answered partner on the other side.`]
      : []),
    ...(differing.length > 0
      ? [
          `Other answers than the baseline's: ${differing.length} of ${overall.pairs}: ${differing.slice(0, SHOWN).join(', ')}${more > 0 ? ` and ${more} more (--json lists them)` : ''}.`,
        ]
      : []),
  ].join('\n');
}

function sideName(comparison: Comparison, side: 'baseline' | 'other'): string {
  const { run, method } = comparison[side];
  return comparison.baseline.run === comparison.other.run ? method : `${method} (${run})`;
}

/** Ends of a difference have signs, so that a dash between them would be read as one. */
function formatRange([low, high]: readonly [number, number], unit: 'percent' | 'nats'): string {
  return `${formatDifference(low, unit)} to ${formatDifference(high, unit)}`;
}
