import type { Architecture } from '../config/spec.js';
import { chatglm } from './chatglm.js';
import type { Family } from './family.js';
import { glm, glm4 } from './glm.js';
import { llama } from './llama.js';
import { mistral } from './mistral.js';
import { qwen2, qwen3 } from './qwen.js';

/** The families that can be loaded. */
export const families: readonly Family[] = [llama, mistral, qwen2, qwen3, glm, glm4, chatglm];

/** Names of the model families that can be loaded. */
export const modelFamilies: readonly Architecture[] = Object.freeze(families.map(({ id }) => id));
