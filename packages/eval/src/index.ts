export {
  isNoTemplateTask,
  parseBenchmarkConfig,
  readBenchmarkConfig,
  shippedConfig,
} from './config.js';
export type { BenchmarkConfig, TemplateMode } from './config.js';
export { NumpyRandomState } from './random/numpy-random-state.js';
export { PythonRandom } from './random/python-random.js';
export { generateSamples } from './ruler/generate.js';
export { loadSources } from './ruler/sources.js';
export type { SourcePaths } from './ruler/sources.js';
export { maxNewTokens, RULER_TASKS, rulerTask } from './ruler/tasks.js';
export type { TokenPreset } from './ruler/tasks.js';
export type {
  EssayText,
  GenerateContext,
  Haystack,
  NeedleType,
  NiahSpec,
  PromptMeter,
  RulerSample,
  RulerSources,
  RulerTask,
  VariableTrackingSpec,
} from './ruler/types.js';
export { KeyWords } from './ruler/words.js';
export type { RunSettings } from './runner/fingerprint.js';
export { formatBytes, formatCsv, formatScore, formatTable } from './runner/report.js';
export { runEval } from './runner/run-eval.js';
export { summarise } from './runner/summary.js';
export type { EvalSummary, EvalVersions, SummaryCell } from './runner/summary.js';
export type {
  EvalEvent,
  EvalMethod,
  EvalOptions,
  EvalProgress,
  EvalRecord,
  ReceiptDigest,
} from './runner/types.js';
export { cleanPrediction, isNullPrediction, meanOf, round2, stringMatchAll } from './score.js';
export type { Mean } from './score.js';
export { punktSplitter } from './text/punkt.js';
export { readPunktParameters } from './text/punkt-parameters.js';
export type { PunktParameters } from './text/punkt-parameters.js';
export { splitSentences } from './text/sentences.js';
export type { SentenceSplitter } from './text/sentences.js';
