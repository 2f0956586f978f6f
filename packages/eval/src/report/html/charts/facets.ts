import type { Panel } from '../../panels.js';
import { columnsFor } from './columns.js';

/** What charts with a small one for each panel have in common; values name theirs in `panel`. */
export interface PanelFacets {
  readonly $schema: string;
  readonly data: { readonly values: Record<string, unknown>[] };
  readonly facet: {
    readonly field: 'panel';
    readonly type: 'nominal';
    readonly title: null;
    readonly sort: string[];
  };
  readonly columns: number;
}

/** @param width pixels of a small chart */
export function byPanel(
  panels: readonly Panel[],
  values: readonly object[],
  width: number,
): PanelFacets {
  return {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    data: { values: values.map((value) => ({ ...value })) },
    facet: {
      field: 'panel',
      type: 'nominal',
      title: null,
      sort: panels.map(({ label }) => label),
    },
    columns: columnsFor(width, panels),
  };
}
