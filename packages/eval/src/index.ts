/**
 * Long-context evaluation of KV-cache methods: RULER, LongBench, NIAH, perplexity; resumable runs; reports.
 * @packageDocumentation
 */
export { openBenchmark } from './benchmark/open.js';
export type * from './benchmark/types.js';
export * from './config/defaults.js';
export { CHAT_NAMES } from './config/fields.js';
export { isNoTemplateTask } from './config/no-template.js';
export * from './config/parse.js';
export { shippedConfig } from './shipped-config.js';
export type * from './config/types.js';
export { MAGIC_NUMBER } from './config/types.js';
export { dataFolder, locateData, type Environment } from './data/locate.js';
export { readManifest, type DataManifest } from './data/manifest.js';
export type { DataProgress } from './data/obtain.js';
export { pullData, type PullDataOptions, type PulledData } from './data/pull.js';
export { DATA_SETS, dataSet } from './data/sets.js';
export type { DataName, DataOrigin, DataSet } from './data/sets.js';
export { endpointExecutor, type EndpointOptions } from './execute/endpoint.js';
export { deviceGroups } from './execute/groups.js';
export type { DeviceGroups, GroupSurroundings, WorkerPlace } from './execute/groups.js';
export { modelExecutor, type ModelExecutorOptions } from './execute/model.js';
export { processPool, type PoolOptions } from './execute/pool.js';
export type { QueueModel } from './execute/queue-broker.js';
export { serveQueue, type QueueWorkerOptions } from './execute/queue-worker.js';
export { queueExecutor, type QueueOptions } from './execute/queue.js';
export type * from './execute/types.js';
export type { WireMethod, WorkOrder } from './execute/wire.js';
export type { WorkerCommand } from './execute/worker-process.js';
export { serveParent, type OpenExecutor } from './execute/worker.js';
export {
  LENGTH_BINS,
  lengthBin,
  LONGBENCH_CATEGORIES,
  LONGBENCH_E_TASKS,
  LONGBENCH_RAW_TASKS,
  LONGBENCH_TASKS,
} from './longbench/tasks.js';
export type {
  LengthBin,
  LongBenchCategory,
  LongBenchMetric,
  LongBenchTask,
} from './longbench/tasks.js';
export { MODES, type Mode } from './prompt/modes.js';
export { NumpyRandomState } from './random/numpy-random-state.js';
export { PythonRandom } from './random/python-random.js';
export { generateSamples } from './ruler/generate.js';
export { loadSources } from './ruler/sources.js';
export type { SourceOptions, SourcePaths } from './ruler/sources.js';
export { maxNewTokens, RULER_TASKS, rulerTask } from './ruler/tasks.js';
export type { TokenPreset } from './ruler/tasks.js';
export type { QaData, QaQuestion } from './ruler/qa-data.js';
export type {
  CommonWordsSpec,
  EssayText,
  FrequentWordsSpec,
  GenerateContext,
  Haystack,
  NeedleType,
  NiahSpec,
  QaName,
  QaSource,
  QaSpec,
  RulerSample,
  RulerSources,
  RulerSpec,
  RulerTask,
  VariableTrackingSpec,
} from './ruler/types.js';
export type { CommonWords, WordSource } from './ruler/word-lists.js';
export { KeyWords } from './ruler/words.js';
export type { RunSettings } from './runner/fingerprint.js';
export * from './report/index.js';
export { isFailed } from './runner/records.js';
export type * from './runner/records.js';
export type * from './runner/run-file.js';
export { runEval } from './runner/run-eval.js';
export { neverActed } from './runner/strict.js';
export { modelSubject, remoteSubject, type RemoteSubject, type Subject } from './runner/subject.js';
export type { EvalEvent, EvalOptions, EvalProgress } from './runner/types.js';
export * from './score.js';
export { punktSplitter } from './text/punkt.js';
export { readPunktParameters } from './text/punkt-parameters.js';
export type { PunktParameters } from './text/punkt-parameters.js';
export { splitSentences } from './text/sentences.js';
export type { SentenceSplitter } from './text/sentences.js';
