/**
 * KIVI: the cache in 2, 4 or 8 bits, keys grouped by channel and values by token.
 *
 * @packageDocumentation
 */
export { kivi } from './kivi.js';
export type { KiviPart } from './kivi.js';
export { method } from './method.js';
export type { Bits, KiviOptions } from './settings.js';
