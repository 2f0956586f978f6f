import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AccelError } from './errors.js';

const require = createRequire(import.meta.url);

/** This package's folder: `ts/` and `dist/` are both one level below it. */
const packageFolder = fileURLToPath(new URL('..', import.meta.url));

/**
 * @internal Finds and loads the addon: `ACCEL_KERNELS_PATH` (a file; when set nothing else is tried), then the
 * package's own `build/Release`, then the platform package. Nothing is ever built or downloaded here.
 * @throws AccelError `ERR_ACCEL_NATIVE_MISSING` with everything that was tried and what to do
 */
export function loadAddon(): { addon: unknown; folder: string } {
  const tried: string[] = [];
  for (const candidate of candidates()) {
    if (isAbsolute(candidate) && !existsSync(candidate)) {
      tried.push(`${candidate}: no such file`);
      continue;
    }
    try {
      const path = require.resolve(candidate);
      return { addon: require(path) as unknown, folder: dirname(path) };
    } catch (error) {
      tried.push(`${candidate}: ${firstLine(error)}`);
    }
  }
  throw new AccelError(
    'ERR_ACCEL_NATIVE_MISSING',
    [
      'The native addon of @accel/kernels could not be loaded. Tried:',
      ...tried.map((line, index) => `  ${index + 1}. ${line}`),
      'To build it: run "pnpm build:native" in the repository, or "npx cmake-js compile" in this package ' +
        '(needs cmake 3.24 or newer and a C++20 compiler). To use a build from elsewhere, set ' +
        'ACCEL_KERNELS_PATH to its accel_kernels.node.',
    ].join('\n'),
  );
}

function candidates(): string[] {
  const override = process.env['ACCEL_KERNELS_PATH'];
  if (override !== undefined && override !== '') return [resolve(override)];
  return [
    join(packageFolder, 'build', 'Release', 'accel_kernels.node'),
    `@accel/kernels-${process.platform}-${process.arch}${libc()}/accel_kernels.node`,
  ];
}

/** Platform packages for Linux name the C library they were built against. */
function libc(): string {
  if (process.platform !== 'linux') return '';
  const report = process.report.getReport() as { header?: { glibcVersionRuntime?: string } };
  return report.header?.glibcVersionRuntime === undefined ? '-musl' : '-gnu';
}

function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split('\n', 1)[0] ?? '';
}
