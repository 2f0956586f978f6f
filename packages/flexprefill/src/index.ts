/**
 * FlexPrefill: every head chooses, from what its last queries look at, which blocks of the prompt's attention it needs.
 *
 * @packageDocumentation
 */
export type { FlexprefillPart } from './flexprefill.js';
export { flexprefill } from './flexprefill.js';
export { method } from './method.js';
export type { FlexprefillOptions } from './settings.js';
