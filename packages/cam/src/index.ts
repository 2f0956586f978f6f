/**
 * CaM: before a row leaves the cache, its value may be folded into the rows after it.
 *
 * @packageDocumentation
 */
export { cam } from './cam.js';
export type { CamPart } from './cam.js';
export { method } from './method.js';
export type { CamOptions } from './settings.js';
