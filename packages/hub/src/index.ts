/**
 * Models from the Hugging Face Hub, in the cache that Python uses: resumed and checked downloads, and finding what is
 * there.
 *
 * @packageDocumentation
 */
export { hubCacheDir } from './environment.js';
export type { Environment } from './environment.js';
export { fetchFile } from './fetch-file.js';
export type { FetchOptions, FetchProgress, FetchedFile } from './fetch-file.js';
export { findModel } from './find.js';
export type { FindOptions } from './find.js';
export type { PullProgress } from './meter.js';
export { pull } from './pull.js';
export type { PullOptions, PullResult } from './pull.js';
export { RepoLock } from './repo-lock.js';
export type { LockOptions } from './repo-lock.js';
export type { RetryPolicy } from './retry.js';
export type { Selection } from './select.js';
