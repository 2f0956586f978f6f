import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { builtFolder, packageFolder, scriptFolder } from './paths.js';

function run(command: string, args: readonly string[]): void {
  const result = spawnSync(command, args, { cwd: packageFolder, encoding: 'utf8' });
  if (result.status === 0) return;
  throw new Error(
    `${command} ${args.join(' ')} failed:\n${result.error?.message ?? ''}${result.stdout}${result.stderr}`,
  );
}

/** With `ACCEL_FIXTURES=prebuilt` fixtures are there already: tools/gpu packs them for machines without cmake. */
const prebuilt = process.env['ACCEL_FIXTURES'] === 'prebuilt';

/** Builds the op libraries of test/fixtures with plain cmake. */
export function buildOpLibraries(): void {
  if (prebuilt) return;
  const build = join(builtFolder, 'cmake');
  run('cmake', ['-S', 'test/fixtures', '-B', build]);
  run('cmake', ['--build', build, '--parallel', '2']);
}

/** The op libraries, and the scripts that child processes run. */
export default function buildFixtures(): void {
  buildOpLibraries();
  if (prebuilt) return;
  run(join(packageFolder, 'node_modules', '.bin', 'tsc'), [
    ...['-p', 'tsconfig.build.json', '--outDir', scriptFolder],
    ...['--emitDeclarationOnly', 'false', '--declaration', 'false', '--declarationMap', 'false'],
    ...['--isolatedDeclarations', 'false'],
  ]);
}
