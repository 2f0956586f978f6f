import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The folder of @accel/kernels. */
export const packageFolder: string = fileURLToPath(new URL('../..', import.meta.url));

/** What the tests build for themselves. */
export const builtFolder: string = join(packageFolder, 'build-fixtures');

/** The TypeScript sources as JavaScript, for tests that start another process. */
export const scriptFolder: string = join(builtFolder, 'js');

/** The addon under test. */
export const addonPath: string =
  process.env['ACCEL_KERNELS_PATH'] ??
  join(packageFolder, 'build', 'Release', 'accel_kernels.node');

/** A library of test/fixtures. */
export function fixture(name: string): string {
  return join(builtFolder, 'cmake', 'Release', `${name}.so`);
}
