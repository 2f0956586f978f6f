import type { Config, TopLevelSpec } from 'vega-lite';

/** A chart of a report: a Vega-Lite specification with its data, and what it shows in words. */
export interface Chart {
  readonly title: string;
  /** Read out where the picture cannot be seen. */
  readonly description: string;
  readonly spec: TopLevelSpec;
}

/** Ink and grid take the colour of the page's text, so that one SVG fits light and dark. */
const CONFIG: Config = {
  background: 'transparent',
  font: 'system-ui, sans-serif',
  aria: false,
  view: { stroke: null },
  axis: {
    labelColor: 'currentColor',
    titleColor: 'currentColor',
    domainColor: 'currentColor',
    tickColor: 'currentColor',
    gridColor: 'currentColor',
    gridOpacity: 0.15,
    labelFontSize: 11,
    titleFontSize: 12,
    labelLimit: 260,
    titleFontWeight: 'normal',
  },
  header: { labelColor: 'currentColor', labelFontSize: 12, labelLimit: 400 },
  legend: {
    labelColor: 'currentColor',
    labelFontSize: 11,
    titleColor: 'currentColor',
    titleFontWeight: 'normal',
  },
  text: { color: 'currentColor' },
};

/**
 * Draws a chart without a browser. The libraries are loaded by the first chart, so that runs without a report do not
 * wait for them.
 *
 * @param prefix what ids in it begin with; several charts on a page must not share them
 * @returns an `<svg>` element
 */
export async function renderSvg(chart: Chart, prefix: string): Promise<string> {
  const [{ compile }, { parse, View }] = await Promise.all([import('vega-lite'), import('vega')]);
  const view = new View(parse(compile(chart.spec, { config: CONFIG }).spec), { renderer: 'none' });
  try {
    const svg = await view.toSVG();
    return svg.replace(/ id="/g, ` id="${prefix}-`).replace(/url\(#/g, `url(#${prefix}-`);
  } finally {
    view.finalize();
  }
}
