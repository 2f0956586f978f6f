import type { Family } from './family.js';
import { llama } from './llama.js';

/** The families that can be loaded. */
export const families: readonly Family[] = [llama];
