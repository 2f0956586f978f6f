/**
 * H2O: the rows that received the most attention so far stay, beside the newest ones.
 *
 * @packageDocumentation
 */
export { h2o } from './h2o.js';
export type { H2oPart } from './h2o.js';
export { method } from './method.js';
export type { H2oOptions } from './settings.js';
