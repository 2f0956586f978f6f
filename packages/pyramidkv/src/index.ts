/**
 * PyramidKV: early layers keep more rows than late ones.
 *
 * @packageDocumentation
 */
export { pyramidRows } from './budgets.js';
export type { PyramidMode, PyramidShape } from './budgets.js';
export { method } from './method.js';
export { pyramidPlan } from './plan.js';
export type { PyramidPlanOptions } from './plan.js';
export { pyramidkv } from './pyramidkv.js';
export type { PyramidkvPart } from './pyramidkv.js';
export type { PyramidkvOptions } from './settings.js';
