import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';

/** The reference material that lies beside the repository, or wherever ACCEL_SHARED points. Tests only. */
const SHARED = process.env.ACCEL_SHARED ?? resolve(import.meta.dirname, '../../../../../shared');

/** The path of a reference file, or why a test cannot run without it. */
export function sharedFile(name: string): { path: string; missing: string | undefined } {
  const path = join(SHARED, name);
  return {
    path,
    missing: existsSync(path)
      ? undefined
      : `needs reference data ${name} (set ACCEL_SHARED to its folder)`,
  };
}
