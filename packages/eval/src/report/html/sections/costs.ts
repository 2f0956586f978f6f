import { COSTS, paretoPoints } from '../../pareto.js';
import { paretoGrid } from '../../pareto-table.js';
import { memoryChart, timeChart } from '../charts/costs.js';
import { paretoChart } from '../charts/pareto.js';
import { tableHtml } from '../elements.js';
import { panelsOf } from '../../panels.js';
import { costGrid } from '../../cost-table.js';
import { drawAll } from './section.js';
import type { Section, SectionContext } from './section.js';

/** Scores against memory and time. */
export async function paretoSection(context: SectionContext): Promise<Section> {
  const { runs } = context;
  const parts: string[] = [];
  for (const cost of COSTS) {
    const points = paretoPoints(runs, cost);
    if (points.length === 0) continue;
    parts.push(await drawAll(context, [paretoChart(runs, points, cost, panelsOf(runs))]));
    const grid = paretoGrid(points, cost, runs[0]?.summary.unit);
    parts.push(`<details><summary>The same as a table</summary>${tableHtml(grid)}</details>`);
  }
  return { id: 'pareto', title: 'What a score costs', body: parts.join('\n') };
}

/** Where time and memory go. */
export async function costsSection(context: SectionContext): Promise<Section> {
  const { runs } = context;
  const panels = panelsOf(runs);
  return {
    id: 'costs',
    title: 'Time and memory',
    body: `${tableHtml(costGrid(runs))}
${await drawAll(context, [timeChart(runs, panels), memoryChart(runs, panels)])}`,
  };
}
