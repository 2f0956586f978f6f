/**
 * XAttention: a prompt's attention over the blocks that antidiagonal scores find.
 *
 * @packageDocumentation
 */
export { calibrate, thresholdFromSums } from './calibrate.js';
export type { BlockSums } from './calibrate.js';
export { method } from './method.js';
export { xattentionBlocks } from './ops.js';
export type { BlocksOptions } from './ops.js';
export { readThresholds, thresholdPlan, writeThresholds } from './plan.js';
export type { ThresholdPlan } from './plan.js';
export type { Stride, XattentionOptions } from './settings.js';
export { xattention } from './xattention.js';
export type { XattentionPart } from './xattention.js';
