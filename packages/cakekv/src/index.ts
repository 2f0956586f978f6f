/**
 * CakeKV: layers share the cache by how their attention spreads and shifts; rows stay by its mean and variance.
 *
 * @packageDocumentation
 */
export { cakeBudget, cakekv } from './cakekv.js';
export type { CakeBudgetPart, CakekvParts, CakeSelectPart } from './cakekv.js';
export { method } from './method.js';
export type { CakeBudgetOptions, CakekvOptions } from './settings.js';
export { tunedTaus } from './taus.js';
export type { Taus } from './taus.js';
