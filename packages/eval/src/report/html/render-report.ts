import type { BenchmarkName } from '../../benchmark/types.js';
import { argumentError } from '../../errors.js';
import type { LoadedRun } from '../read-run.js';
import { groupBy } from '../summary.js';
import { foldedHtml } from './elements.js';
import { escape } from './escape.js';
import { renderSvg } from './render-chart.js';
import type { Chart } from './render-chart.js';
import { aboutSection } from './sections/about.js';
import { costsSection, paretoSection } from './sections/costs.js';
import { differencesSection } from './sections/differences.js';
import { evictedSection } from './sections/evicted.js';
import { failuresSection } from './sections/failures.js';
import { notesSection } from './sections/notes.js';
import { scoresSection, tasksSection } from './sections/scores.js';
import type { Section, SectionContext } from './sections/section.js';
import { reportStyle } from './style.js';

/**
 * Runs as one HTML file: tables, charts as inline SVG with their Vega-Lite specifications, and what was run. It loads
 * nothing and runs no script, which its own policy forbids. Runs of a benchmark stand side by side.
 *
 * @param runs at least one; as {@link readRun} reads them
 * @throws AccelError ERR_ACCEL_ARGUMENT without a run
 * @example
 * await writeFile('report.html', await renderReport([await readRun('results/needle')]));
 */
export async function renderReport(runs: readonly LoadedRun[]): Promise<string> {
  const [first] = runs;
  if (first === undefined) throw argumentError('A report needs at least one run.');
  const draw = figureMaker();
  const groups: Group[] = [];
  for (const [, group] of groupBy(runs, ({ summary }) => summary.benchmark)) {
    groups.push({
      name: group[0]?.summary.benchmark ?? first.summary.benchmark,
      sections: await sectionsOf({ runs: group, draw }),
    });
  }
  const benchmarks = groups.map(({ name }) => name);
  const parts = groups.flatMap(({ name, sections }) =>
    sections.map((section) => ({
      ...section,
      id: `${name.toLowerCase()}-${section.id}`,
      heading: groups.length > 1 ? `${name}: ${section.title}` : section.title,
    })),
  );
  const notes = notesSection(benchmarks);
  const all = [...parts, { ...notes, heading: notes.title }];
  const title = `${benchmarks.join(', ')}: ${runs.map(({ name }) => name).join(', ')}`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>${escape(title)}</title>
<style>${reportStyle}</style>
</head>
<body>
<h1>${escape(title)}</h1>
<nav aria-label="sections"><p>
${all.map(({ id, heading }) => `<a href="#${id}">${escape(heading)}</a>`).join('\n')}
</p></nav>
<main>
${all.map(sectionHtml).join('\n')}
</main>
</body>
</html>
`;
}

interface Group {
  readonly name: BenchmarkName;
  readonly sections: readonly Section[];
}

/** One after another: charts are numbered in the order of the page. */
async function sectionsOf(context: SectionContext): Promise<Section[]> {
  const sections = [
    aboutSection(context),
    await scoresSection(context),
    await differencesSection(context),
    await tasksSection(context),
    await paretoSection(context),
    await costsSection(context),
    await evictedSection(context),
    failuresSection(context),
  ];
  return sections.filter(({ body }) => body !== '');
}

function sectionHtml({ id, heading, body }: Section & { heading: string }): string {
  return `<section aria-labelledby="${id}">
<h2 id="${id}">${escape(heading)}</h2>
${body}
</section>`;
}

/** Makes numbered figures, each with its specification. */
function figureMaker(): (chart: Chart) => Promise<string> {
  let count = 0;
  return async (chart) => {
    const prefix = `figure-${++count}`;
    const svg = await renderSvg(chart, prefix);
    const named = svg.replace(
      '<svg ',
      `<svg role="img" aria-labelledby="${prefix}-title" aria-describedby="${prefix}-caption" `,
    );
    return `<figure id="${prefix}">
<h4 id="${prefix}-title">${escape(chart.title)}</h4>
${named}
<figcaption id="${prefix}-caption">${escape(chart.description)}</figcaption>
${foldedHtml('Vega-Lite specification with the data', JSON.stringify(chart.spec))}
</figure>`;
  };
}
