/**
 * StreamingLLM: the first tokens and the newest ones stay, with positions inside the cache.
 *
 * @packageDocumentation
 */
export { method } from './method.js';
export type { StreamingllmOptions } from './settings.js';
export { streamingllm } from './streamingllm.js';
export type { StreamingllmPart } from './streamingllm.js';
