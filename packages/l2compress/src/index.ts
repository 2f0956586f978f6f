/**
 * L2Compress: keys with small norms stay, without looking at attention.
 *
 * @packageDocumentation
 */
export { l2compress } from './l2compress.js';
export type { L2compressPart } from './l2compress.js';
export { method } from './method.js';
export type { L2compressOptions } from './settings.js';
