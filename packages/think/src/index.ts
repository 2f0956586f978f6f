/**
 * ThinK: keys lose the channels that the last queries of the prompt hardly use.
 *
 * @packageDocumentation
 */
export { method } from './method.js';
export type { ThinkOptions } from './settings.js';
export { think } from './think.js';
export type { ThinkPart } from './think.js';
