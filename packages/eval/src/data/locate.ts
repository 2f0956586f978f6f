import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { dataSet, type DataName } from './sets.js';

/** Environment variables, as in `process.env`. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** Written last: a set without one is not whole. */
export const MANIFEST: string = 'manifest.json';

/**
 * The folder of pulled data sets: `$ACCEL_DATA`, else `$XDG_CACHE_HOME/accel/data`, else `~/.cache/accel/data`.
 * @param env default `process.env`
 */
export function dataFolder(env: Environment = process.env): string {
  const named = env['ACCEL_DATA'];
  if (named !== undefined && named !== '') return resolve(named);
  const caches = env['XDG_CACHE_HOME'] || join(env['HOME'] ?? homedir(), '.cache');
  return resolve(caches, 'accel', 'data');
}

/**
 * Where a set is that `accel data pull` stored: a file, or a folder for sets of several files.
 * @param env default `process.env`
 * @returns undefined when it is not there
 */
export function locateData(name: DataName, env: Environment = process.env): string | undefined {
  const folder = join(dataFolder(env), name);
  return existsSync(join(folder, MANIFEST)) ? join(folder, dataSet(name).entry) : undefined;
}
