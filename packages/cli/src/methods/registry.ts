import { AccelError, suggest, type Method } from '@accel/core';
import { catalogue, type CatalogueEntry } from './catalogue.js';

/**
 * Finds a method by name, ignoring case; `@accel/snapkv` and `snap-kv` are understood too.
 *
 * @throws AccelError ERR_ACCEL_METHOD_UNKNOWN with the nearest name
 */
export function findMethod(name: string): CatalogueEntry {
  const wanted = name
    .toLowerCase()
    .replace(/^@accel\//, '')
    .replaceAll(/[-_ ]/g, '');
  const found = catalogue.find((entry) => entry.id === wanted);
  if (found !== undefined) return found;
  const titles = catalogue.map((entry) => entry.title);
  throw new AccelError(
    'ERR_ACCEL_METHOD_UNKNOWN',
    `There is no method called "${name}".${suggest(name, [...titles, 'full'])} Known: full, ${titles.join(', ')}.`,
  );
}

/**
 * Loads a method's package.
 *
 * @returns undefined when the package is not installed
 * @throws what the package throws while it loads
 */
export async function loadMethod(entry: CatalogueEntry): Promise<Method | undefined> {
  let loaded: { method?: Method };
  try {
    loaded = await importPackage(entry.packageName);
  } catch (error) {
    if (isMissing(error, entry.packageName)) return undefined;
    throw error;
  }
  if (typeof loaded.method?.fromConfig !== 'function') {
    throw new AccelError(
      'ERR_ACCEL_METHOD_UNKNOWN',
      `${entry.packageName} does not export a method this version understands. Install versions that belong together.`,
    );
  }
  return loaded.method;
}

/** As {@link loadMethod}, but a missing package is an error that says how to get it. */
export async function requireMethod(entry: CatalogueEntry): Promise<Method> {
  const method = await loadMethod(entry);
  if (method !== undefined) return method;
  throw new AccelError(
    'ERR_ACCEL_METHOD_UNKNOWN',
    `${entry.title} is in a package of its own that is not installed. Add it with: npm i ${entry.packageName}`,
  );
}

/** The methods this package depends on are imported by name, so bundlers and type checks see them. */
async function importPackage(name: string): Promise<{ method?: Method }> {
  switch (name) {
    case '@accel/cakekv':
      return import('@accel/cakekv');
    case '@accel/cam':
      return import('@accel/cam');
    case '@accel/flexprefill':
      return import('@accel/flexprefill');
    case '@accel/h2o':
      return import('@accel/h2o');
    case '@accel/kivi':
      return import('@accel/kivi');
    case '@accel/l2compress':
      return import('@accel/l2compress');
    case '@accel/pyramidkv':
      return import('@accel/pyramidkv');
    case '@accel/snapkv':
      return import('@accel/snapkv');
    case '@accel/streamingllm':
      return import('@accel/streamingllm');
    case '@accel/think':
      return import('@accel/think');
    case '@accel/xattention':
      return import('@accel/xattention');
    default:
      return (await import(name)) as { method?: Method };
  }
}

function isMissing(error: unknown, packageName: string): boolean {
  // Another module missing inside the package is its defect and must not read as "not installed".
  return (
    error instanceof Error &&
    'code' in error &&
    error.code === 'ERR_MODULE_NOT_FOUND' &&
    error.message.includes(`'${packageName}'`)
  );
}
