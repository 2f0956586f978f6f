import { resolve } from 'node:path';
import { locateData, type Environment } from '../data/locate.js';
import { DATA_SETS } from '../data/sets.js';

/** A place in the file system, or what has to be written instead. */
type ResolvedPath = { readonly path: string } | { readonly allowed: string };

/**
 * What a path in a config stands for: `data:<set>` is what `accel data pull` stored, other paths are taken from the
 * config's folder.
 */
export function resolvePath(text: string, folder: string, env: Environment): ResolvedPath {
  const name = /^data:(.*)$/.exec(text)?.[1];
  if (name === undefined) return { path: resolve(folder, text) };
  const set = DATA_SETS.find((known) => known.name === name);
  if (set === undefined) {
    const names = DATA_SETS.map((known) => `data:${known.name}`);
    return { allowed: `a path, or one of ${names.join(', ')}` };
  }
  const path = locateData(set.name, env);
  if (path !== undefined) return { path };
  const how = set.origins.length === 0 ? `${name} --from <file>` : name;
  return { allowed: `a set that is there. Get it with: accel data pull ${how}` };
}
