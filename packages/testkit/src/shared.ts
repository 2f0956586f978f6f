import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';

/** Folder of the reference material: `ACCEL_SHARED`, or `shared` beside the repository. */
const SHARED = process.env.ACCEL_SHARED ?? resolve(import.meta.dirname, '../../../../shared');

/** Absolute path of a file or folder of the reference material, which may be absent. */
export function sharedPath(name: string): string {
  return join(SHARED, name);
}

/**
 * Why a test that reads `name` cannot run here, or `undefined` if it can. Put it in the title of the skipped test.
 *
 * @example
 * const reason = missing('golden/snapkv');
 * describe.skipIf(reason !== undefined)(`goldens${reason ?? ''}`, () => {});
 */
export function missing(name: string): string | undefined {
  if (existsSync(sharedPath(name))) return undefined;
  return `needs reference data ${name}; set ACCEL_SHARED to the folder that has it`;
}
