import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readFile, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { fileError } from '../errors.js';
import { MANIFEST } from './locate.js';
import type { DataSet } from './sets.js';

/** What a pulled set consists of and where it came from: `manifest.json` in its folder. */
export interface DataManifest {
  readonly name: string;
  readonly licence: string;
  readonly homepage: string;
  /** ISO 8601. */
  readonly date: string;
  /** Addresses or paths, with the SHA-256 of what came. */
  readonly sources: readonly { readonly from: string; readonly sha256?: string | undefined }[];
  readonly files: readonly {
    readonly path: string;
    readonly bytes: number;
    readonly sha256: string;
  }[];
}

const manifestFile: z.ZodType<DataManifest> = z.object({
  name: z.string(),
  licence: z.string(),
  homepage: z.string(),
  date: z.string(),
  sources: z.array(z.object({ from: z.string(), sha256: z.string().optional() })),
  files: z.array(z.object({ path: z.string(), bytes: z.int(), sha256: z.string() })),
});

/** Lists the files of a folder and writes its manifest. */
export async function writeManifest(
  folder: string,
  set: DataSet,
  sources: DataManifest['sources'],
): Promise<DataManifest> {
  const files: DataManifest['files'][number][] = [];
  for (const path of (await readdir(folder)).sort()) {
    const { size } = await stat(join(folder, path));
    files.push({ path, bytes: size, sha256: await sha256Of(join(folder, path)) });
  }
  const { name, licence, homepage } = set;
  const date = new Date().toISOString();
  const manifest: DataManifest = { name, licence, homepage, date, sources, files };
  await writeFile(join(folder, MANIFEST), `${JSON.stringify(manifest, null, 2)}\n`);
  return manifest;
}

/**
 * Reads the manifest of a set's folder.
 * @returns undefined when there is none
 * @throws AccelError ERR_ACCEL_FILE when it is damaged
 */
export async function readManifest(folder: string): Promise<DataManifest | undefined> {
  const path = join(folder, MANIFEST);
  const text = await readFile(path, 'utf8').catch(() => undefined);
  if (text === undefined) return undefined;
  try {
    return manifestFile.parse(JSON.parse(text));
  } catch (error) {
    throw fileError(`${path} is damaged. Pull the set again.`, error);
  }
}

/** SHA-256 of a file in hexadecimal digits. */
export async function sha256Of(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}
