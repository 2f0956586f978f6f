import type { LoadedRun } from '../../read-run.js';
import type { Chart } from '../render-chart.js';

/** What a section is made from: runs of one benchmark, and how charts become figures. */
export interface SectionContext {
  readonly runs: readonly LoadedRun[];
  /** A figure with its caption and specification. */
  readonly draw: (chart: Chart) => Promise<string>;
}

/** A part of the page with its heading. Empty bodies are left out. */
export interface Section {
  /** Unique on the page of one benchmark. */
  readonly id: string;
  readonly title: string;
  readonly body: string;
}

/** Draws charts one after another; those that are undefined have nothing to show. */
export async function drawAll(
  { draw }: SectionContext,
  charts: readonly (Chart | undefined)[],
): Promise<string> {
  const figures: string[] = [];
  for (const chart of charts) if (chart !== undefined) figures.push(await draw(chart));
  return figures.join('\n');
}
