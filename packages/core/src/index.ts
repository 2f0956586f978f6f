/**
 * Long-context inference with composable KV-cache policies.
 * @packageDocumentation
 */
export { AccelError, type AccelErrorCode } from '@accel/kernels';
export { appendBatch, type AppendItem, type AppendOptions } from './append.js';
export type { ChatGenerateOptions } from './chat/chat.js';
export { chatPrompt, type ChatPrompt } from './chat/prompt.js';
export { ChatSession, type ChatSessionOptions, type ChatTurn } from './chat/session.js';
export * from './config/model-config.js';
export * from './config/rope.js';
export * from './config/spec.js';
export type { RopeFrequencies } from './engine/rope.js';
export type { SamplingOptions } from './engine/sampler.js';
export type { CacheView } from './engine/view.js';
export { readCheckpoint, type Checkpoint } from './checkpoint.js';
export { generate, generateBatch } from './generate.js';
export type { BatchTokenEvent, GenerateOptions, TokenEvent } from './generate.js';
export { modelFamilies } from './models/families.js';
export { bindWeights } from './models/bind.js';
export type { LayerWeights, ModelWeights, StoredWeights, WeightMap } from './models/bind.js';
export type * from './models/family.js';
export { describeModel } from './memory/describe.js';
export type {
  FilesDescription,
  ModelDescription,
  TokenizerDescription,
} from './memory/describe.js';
export { estimateMemory } from './memory/estimate.js';
export type {
  KvEstimate,
  MemoryEstimate,
  MemoryQuestion,
  WorkspaceEstimate,
} from './memory/estimate.js';
export type { MemoryTarget } from './memory/device.js';
export { loadModel, Model, type ComputeDType, type LoadModelOptions } from './model.js';
export * from './policy/allocate.js';
export * from './policy/assemble.js';
export * from './policy/budget.js';
export * from './policy/budget-plan.js';
export * from './policy/channels.js';
export type { Check, Illegal, Problem } from './policy/check.js';
export * from './policy/codec.js';
export * from './policy/compose.js';
export * from './policy/evict.js';
export * from './policy/forecast.js';
export * from './policy/layer-end.js';
export { judge, legality } from './policy/legality.js';
export type { Finding, Verdict } from './policy/legality.js';
export * from './policy/merge.js';
export * from './policy/method.js';
export * from './policy/method-config.js';
export { editDistance, nearest, suggest } from './policy/nearest.js';
export { OptionProblem, parseOptions } from './policy/options.js';
export type { OptionAlias, OptionOf, OptionsReader } from './policy/options.js';
export * from './policy/parse.js';
export * from './policy/part.js';
export * from './policy/prefill.js';
export * from './policy/saved.js';
export * from './policy/select.js';
export * from './policy/setup.js';
export * from './policy/tally.js';
export * from './receipt/receipt.js';
export * from './receipt/strict.js';
export type { RestoreOptions } from './saved/restore.js';
export type { SaveOptions } from './saved/save.js';
export { scoreBatch, type ScoreOptions } from './score.js';
export { Sequence, type SequenceOptions } from './sequence.js';
export * from './tokenizer/tokenizer.js';
export { openWeights, type Weights } from './weights/weights.js';
export type { StoredWeight, WeightSource } from './weights/source.js';
export type { TensorInfo } from './weights/header.js';
