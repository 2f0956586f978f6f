import { lengthsOf } from '../../series.js';
import { groupGrid, scoreGrid, taskGrid } from '../../tables.js';
import { needleHeatmaps, taskHeatmaps } from '../charts/scores.js';
import { tableHtml } from '../elements.js';
import { drawAll } from './section.js';
import type { Section, SectionContext } from './section.js';

/** The table of the seed toolkit, and what a benchmark has besides. */
export async function scoresSection(context: SectionContext): Promise<Section> {
  const { runs } = context;
  const groups = groupGrid(runs);
  const needle = runs[0]?.summary.benchmark === 'NIAH';
  const nats = runs[0]?.summary.unit === 'nats';
  const meaning = nats
    ? 'Mean negative log-likelihood of a token of the target, in nats, with 95 % confidence intervals; less is better.'
    : 'Scores from 0 to 100 with 95 % confidence intervals.';
  return {
    id: 'scores',
    title: 'Scores',
    body: `<p>${meaning} A dash: no answer, or not run. Reasoning time is prefill and decode of all records together.</p>
${tableHtml(scoreGrid(runs))}
${groups === undefined ? '' : tableHtml(groups)}
${await drawAll(context, needle ? needleHeatmaps(runs) : [])}`,
  };
}

/** Every task at every length; empty where there is one task only. */
export async function tasksSection(context: SectionContext): Promise<Section> {
  const { runs } = context;
  const single = runs.every(({ summary }) => summary.tasks.length === 1);
  const tables = single ? [] : lengthsOf(runs).map((length) => tableHtml(taskGrid(runs, length)));
  return {
    id: 'tasks',
    title: 'Tasks',
    body: single
      ? ''
      : `${tables.join('\n')}\n${await drawAll(context, runs[0]?.summary.unit === 'nats' ? [] : taskHeatmaps(runs))}`,
  };
}
