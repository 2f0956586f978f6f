/**
 * Long-context inference with composable KV-cache policies.
 * @packageDocumentation
 */
export { AccelError, type AccelErrorCode } from '@accel/kernels';
export { appendBatch, type AppendItem, type AppendOptions } from './append.js';
export * from './config/model-config.js';
export * from './config/rope.js';
export * from './config/spec.js';
export type { RopeFrequencies } from './engine/rope.js';
export type { SamplingOptions } from './engine/sampler.js';
export type { CacheView } from './engine/view.js';
export { generate, generateBatch } from './generate.js';
export type { BatchTokenEvent, GenerateOptions, TokenEvent } from './generate.js';
export { bindWeights } from './models/family.js';
export type { Family, LayerMap, LayerNames, LayerWeights, ModelWeights } from './models/family.js';
export { loadModel, Model, type ComputeDType, type LoadModelOptions } from './model.js';
export * from './policy/budget.js';
export * from './policy/budget-plan.js';
export type { Check, Illegal, Problem } from './policy/check.js';
export * from './policy/compose.js';
export * from './policy/method.js';
export * from './policy/method-config.js';
export { editDistance, nearest, suggest } from './policy/nearest.js';
export { OptionProblem, parseOptions } from './policy/options.js';
export type { OptionAlias, OptionsReader } from './policy/options.js';
export * from './policy/parse.js';
export * from './policy/part.js';
export * from './policy/select.js';
export * from './receipt/receipt.js';
export * from './receipt/strict.js';
export { Sequence, type SequenceOptions } from './sequence.js';
export * from './tokenizer/tokenizer.js';
export { openWeights, type Weights } from './weights/weights.js';
export type { TensorInfo } from './weights/header.js';
