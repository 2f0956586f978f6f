#!/usr/bin/env node
/**
 * Packs every public package as it would be published and checks the archive: publint (manifest and
 * files) and "are the types wrong" (what TypeScript users resolve). The working tree's manifests
 * cannot be checked directly: `publishConfig.exports` and `workspace:^` only apply when packing.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');

/** Largest archive a package may have, in MB; the registry's users pay for every one. */
const MAXIMUM_MEGABYTES = { '@accel/needle': 16 };
const DEFAULT_MAXIMUM_MEGABYTES = 2;

function run(command, args, cwd) {
  const result = spawnSync(command, args, { cwd, encoding: 'utf8' });
  return { ok: result.status === 0, text: `${result.stdout ?? ''}${result.stderr ?? ''}`.trim() };
}

function publicPackages() {
  const listed = run('pnpm', ['ls', '--recursive', '--depth', '-1', '--json'], root);
  if (!listed.ok) throw new Error(`pnpm ls failed:\n${listed.text}`);
  return JSON.parse(listed.text)
    .filter((entry) => !entry.private)
    .map((entry) => ({ name: entry.name, path: entry.path }));
}

const bin = join(root, 'node_modules', '.bin');
const scratch = mkdtempSync(join(tmpdir(), 'accel-pack-'));
let failures = 0;
try {
  for (const { name, path } of publicPackages()) {
    const folder = mkdtempSync(join(scratch, 'package-'));
    const problems = [];
    const packed = run('pnpm', ['pack', '--pack-destination', folder], path);
    const archive = readdirSync(folder).find((file) => file.endsWith('.tgz'));
    if (!packed.ok || archive === undefined) {
      problems.push(packed.text);
    } else {
      const file = join(folder, archive);
      const megabytes = readFileSync(file).length / 1e6;
      const limit = MAXIMUM_MEGABYTES[name] ?? DEFAULT_MAXIMUM_MEGABYTES;
      if (megabytes > limit) {
        problems.push(
          `the archive has ${megabytes.toFixed(1)} MB, more than the ${limit} MB allowed`,
        );
      }
      for (const [tool, args] of [
        ['publint', ['run', file, '--strict']],
        ['attw', [file, '--profile', 'esm-only', '--format', 'ascii']],
      ]) {
        const result = run(join(bin, tool), args, root);
        if (!result.ok) problems.push(`${tool}:\n${result.text}`);
      }
    }
    console.log(`${problems.length === 0 ? 'ok    ' : 'FAILED'} ${name}`);
    for (const problem of problems) console.log(problem);
    if (problems.length > 0) failures += 1;
  }
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
process.exitCode = failures === 0 ? 0 : 1;
