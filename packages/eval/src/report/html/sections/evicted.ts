import { evictionGrid } from '../../cost-table.js';
import { panelsOf } from '../../panels.js';
import { layerHeatmap } from '../charts/layers.js';
import { tableHtml } from '../elements.js';
import { drawAll } from './section.js';
import type { Section, SectionContext } from './section.js';

/** What the methods did to the cache; empty where no engine told. */
export async function evictedSection(context: SectionContext): Promise<Section> {
  const { runs } = context;
  const told = runs.some(({ summary }) => summary.averages.some(({ acted }) => acted !== null));
  return {
    id: 'evicted',
    title: 'What was evicted',
    body: told
      ? `<p>From the engine's receipts, as of the end of prefill, means over records. Rows are means over layers and kv heads.</p>
${tableHtml(evictionGrid(runs))}
${await drawAll(context, [layerHeatmap(runs, panelsOf(runs))])}`
      : '',
  };
}
