import { compare } from '../../compare.js';
import type { Comparison } from '../../compare.js';
import { formatDifference, formatOr, formatP, formatScore } from '../../format.js';
import type { Grid } from '../../grid.js';
import { holm } from '../../paired.js';
import type { LoadedRun } from '../../read-run.js';
import { averageOf, seriesOf } from '../../series.js';
import type { Series } from '../../series.js';
import { differenceChart } from '../charts/differences.js';
import { tableHtml } from '../elements.js';
import { panelsOf } from '../../panels.js';
import { drawAll } from './section.js';
import type { Section, SectionContext } from './section.js';

/** Each method against full attention of its own run, sample by sample; empty where no run has full attention. */
export async function differencesSection(context: SectionContext): Promise<Section> {
  const { runs } = context;
  const compared = seriesOf(runs).flatMap(({ label, run, method }) => {
    const full = fullMethod(run);
    if (full === undefined || full === method || !hasCommon(run, full, method)) return [];
    return compare({ run, method: full }, { run, method }).map((comparison) => ({
      label,
      comparison,
    }));
  });
  const unit = runs[0]?.summary.unit ?? 'percent';
  const body =
    compared.length === 0
      ? ''
      : `<p>The same samples under full attention and under each method. p: two-sided sign-flip permutation test over
pairs; Holm: corrected for the number of methods in a mode.</p>
${tableHtml(differenceGrid(compared, unit))}
${unit === 'nats' ? tableHtml(perplexityGrid(runs)) : ''}
${await drawAll(context, [differenceChart(compared, panelsOf(runs), unit)])}`;
  return { id: 'differences', title: 'Against full attention', body };
}

/** The method without parts. */
function fullMethod({ run }: LoadedRun): string | undefined {
  return run.methods.find(({ policy }) => policy.parts.length === 0)?.name;
}

function hasCommon({ summary }: LoadedRun, full: string, method: string): boolean {
  return [full, method].every((name) =>
    summary.totals.some((total) => total.method === name && total.n > 0),
  );
}

type Compared = { readonly label: string; readonly comparison: Comparison };

function differenceGrid(compared: readonly Compared[], unit: 'percent' | 'nats'): Grid {
  const corrected = new Map<Comparison, number>();
  for (const mode of new Set(compared.map(({ comparison }) => comparison.mode))) {
    const own = compared.filter(({ comparison }) => comparison.mode === mode);
    const values = holm(own.map(({ comparison }) => comparison.overall.p));
    for (const [i, { comparison }] of own.entries()) corrected.set(comparison, values[i] ?? 1);
  }
  return {
    title: `Mean difference to full attention, ${unit === 'nats' ? 'nats a token' : 'points'}`,
    labels: 2,
    head: [
      'Method',
      'Mode',
      'Pairs',
      'Difference',
      '95 % CI',
      'p',
      'p (Holm)',
      'Better',
      'Same',
      'Worse',
    ],
    rows: compared.map(({ label, comparison }) => {
      const { pairs, difference, ci95, p, wins, ties, losses } = comparison.overall;
      return [
        label,
        comparison.mode,
        String(pairs),
        formatDifference(difference, unit),
        formatOr(ci95, (ends) => ends.map((end) => formatDifference(end, unit)).join(' to ')),
        formatP(p),
        formatP(corrected.get(comparison) ?? 1),
        String(wins),
        String(ties),
        String(losses),
      ];
    }),
  };
}

function perplexityGrid(runs: readonly LoadedRun[]): Grid {
  const perplexity = (series: Series, mode: Comparison['mode'], length: number | null): string =>
    formatOr(averageOf(series, mode, length)?.score, (nats) => formatScore(Math.exp(nats)));
  const series = seriesOf(runs);
  return {
    title: 'Perplexity: e to the mean nats a token',
    labels: 1,
    head: ['Length', ...series.map(({ label }) => label)],
    rows: panelsOf(runs).map(({ label, mode, length }) => [
      label,
      ...series.map((column) => perplexity(column, mode, length)),
    ]),
  };
}
