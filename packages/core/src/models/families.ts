import type { Architecture } from '../config/spec.js';
import type { Family } from './family.js';
import { llama } from './llama.js';

/** The families that can be loaded. */
export const families: readonly Family[] = [llama];

/** Names of the model families that can be loaded. */
export const modelFamilies: readonly Architecture[] = Object.freeze(families.map(({ id }) => id));
