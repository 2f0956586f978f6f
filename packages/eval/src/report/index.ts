export { compare } from './compare.js';
export type { ComparedSide, Comparison, ComparisonRow } from './compare.js';
export { comparisonGrid, formatComparison } from './compare-table.js';
export { formatAverageCsv, formatCsv, formatRunsCsv } from './csv.js';
export type { Figures } from './figures.js';
export { formatBytes } from './format.js';
export { gridMarkdown, gridText } from './grid.js';
export type { Grid, GridCell } from './grid.js';
export { renderReport } from './html/render-report.js';
export { formatMarkdown } from './markdown.js';
export { holm, testPaired } from './paired.js';
export type { PairedOptions, PairedResult } from './paired.js';
export { paretoPoints } from './pareto.js';
export type { Cost, ParetoPoint } from './pareto.js';
export { formatPareto, paretoGrid } from './pareto-table.js';
export { readRun } from './read-run.js';
export type { LoadedRun } from './read-run.js';
export { EFFECTIVE_SCORE, rulerFigures } from './ruler-figures.js';
export type { RulerFigures } from './ruler-figures.js';
export type { Interval } from './statistics.js';
export { summarise } from './summary.js';
export type {
  EvalSummary,
  SummaryAverage,
  SummaryCell,
  SummaryGroup,
  SummaryKey,
  SummaryTotal,
} from './summary.js';
export { formatScores, formatTable, scoreGrid, taskGrid } from './tables.js';
