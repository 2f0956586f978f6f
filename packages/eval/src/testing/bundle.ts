import { mkdtempSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';

/** A program made of sources. */
export interface Bundle {
  readonly script: string;
  remove(): void;
}

/** What CommonJS modules expect to exist. */
const COMMONJS = `
import { createRequire as fromHere } from 'node:module';
const require = fromHere(import.meta.url);
const { filename: __filename, dirname: __dirname } = import.meta;
`;
const OUTSIDE = ['bullmq', 'ioredis', 'esbuild', 'vega', 'vega-lite', '@node-rs/jieba'];

/**
 * Bundles a program of this folder, so that tests start processes without a build.
 *
 * @param entry `name.ts`
 * @param external packages that stay outside; what is inside starts faster
 */
export async function bundle(
  entry: string,
  external: readonly string[] = OUTSIDE,
): Promise<Bundle> {
  const { build } = await import('esbuild');
  // Inside the package, from where it and what stays outside are found.
  const folder = mkdtempSync(join(import.meta.dirname, '../../.bundle-'));
  await build({
    entryPoints: [join(import.meta.dirname, entry)],
    outdir: folder,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    conditions: ['@accel/source'],
    external: [...external],
    banner: { js: COMMONJS },
  });
  return {
    script: join(folder, basename(entry, '.ts') + '.js'),
    remove: () => rmSync(folder, { recursive: true }),
  };
}
