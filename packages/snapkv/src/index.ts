/**
 * SnapKV: the last queries of the prompt vote for the keys that stay.
 *
 * @packageDocumentation
 */
export { method } from './method.js';
export type { Pool } from './pool.js';
export type { SnapkvOptions } from './settings.js';
export { snapkv } from './snapkv.js';
export type { SnapkvPart } from './snapkv.js';
