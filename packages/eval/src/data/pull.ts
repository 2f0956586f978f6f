import { mkdir, rename, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { AccelError } from '@accel/core';
import { RepoLock } from '@accel/hub';
import { fileError, messageOf } from '../errors.js';
import { dataFolder, type Environment } from './locate.js';
import { readManifest, writeManifest, type DataManifest } from './manifest.js';
import { obtain, type DataProgress, type Obtained } from './obtain.js';
import { dataSet, type DataName, type DataOrigin, type DataSet } from './sets.js';
import { unpack } from './unpack.js';

/** Options of {@link pullData}. */
export interface PullDataOptions {
  /**
   * A file or folder of one's own, or an address, instead of the set's own origins: the set's file, an archive or folder
   * with the set's files; `.gz` and `.zip` are unpacked. Its form is checked, not its checksum.
   */
  readonly from?: string | undefined;
  /** Where the set's origins are, in the order of the catalogue, for mirrors. Checksums hold for them too. */
  readonly origins?: readonly DataOrigin[] | undefined;
  /** Pull even if it is there. Default false; `from` always does. */
  readonly force?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: DataProgress) => void) | undefined;
  /** Called once if another process pulls this set, with who it is; `pullData` then waits for it. */
  readonly onWait?: ((owner: string) => void) | undefined;
  /** Where `ACCEL_DATA`, `XDG_CACHE_HOME` and `HF_…` are read. Default `process.env`. */
  readonly env?: Environment | undefined;
}

/** A set that is here. */
export interface PulledData {
  /** What a benchmark reads: a file or a folder. */
  readonly path: string;
  readonly manifest: DataManifest;
  /** Whether it was here before. */
  readonly wasThere: boolean;
}

/**
 * Puts a data set into the data folder, where benchmarks look for it: downloads it or imports what one has, unpacks it,
 * checks its form and writes a manifest with checksums, source and licence. The set appears whole or not at all, and an
 * interrupted download goes on the next time.
 *
 * @throws AccelError ERR_ACCEL_ARGUMENT, ERR_ACCEL_FILE (other form, no room), ERR_ACCEL_HUB (unreachable),
 *   ERR_ACCEL_CHECKSUM, ERR_ACCEL_BUSY, ERR_ACCEL_ABORTED
 */
export async function pullData(name: DataName, options: PullDataOptions = {}): Promise<PulledData> {
  const { env = process.env, from, signal } = options;
  const set = dataSet(name);
  const folder = join(dataFolder(env), name);
  const there = async (): Promise<PulledData | undefined> => {
    if (from !== undefined || options.force === true) return undefined;
    const manifest = await readManifest(folder);
    return manifest && { path: join(folder, set.entry), manifest, wasThere: true };
  };
  const found = await there();
  if (found !== undefined) return found;
  const origins = from === undefined ? (options.origins ?? set.origins) : [{ from: whole(from) }];
  if (origins.length === 0) throw notGivenAway(set);
  let lock: RepoLock | undefined;
  try {
    lock = await RepoLock.acquire(join(dataFolder(env), '.locks', name), {
      signal: signal ?? new AbortController().signal,
      onWait: options.onWait,
    });
    // Whoever held the lock pulled the same set.
    const now = await there();
    if (now !== undefined) return now;
    const manifest = await assemble(set, origins, { ...options, env });
    return { path: join(folder, set.entry), manifest, wasThere: false };
  } catch (error) {
    if (AccelError.isInstance(error)) throw error;
    if (signal?.aborted === true) {
      throw new AccelError(
        'ERR_ACCEL_ABORTED',
        `The pull of ${name} was stopped. Pull again to go on.`,
        { cause: error },
      );
    }
    throw fileError(
      `Cannot write to ${dataFolder(env)}: ${messageOf(error)}. Check the folder, or choose another one with ACCEL_DATA.`,
      error,
    );
  } finally {
    await lock?.release();
  }
}

/** Obtains, unpacks and checks a set beside its place, then puts it there. Call it with the lock. */
async function assemble(
  set: DataSet,
  origins: readonly DataOrigin[],
  options: PullDataOptions & { readonly env: Environment },
): Promise<DataManifest> {
  const root = dataFolder(options.env);
  const downloads = join(root, '.downloads', set.name);
  const staging = join(root, '.staging', set.name);
  // What a killed process left.
  await rm(staging, { recursive: true, force: true });
  await mkdir(staging, { recursive: true });
  try {
    const obtained: Obtained[] = [];
    for (const origin of origins) obtained.push(await obtain(origin, downloads, options));
    let files = 0;
    for (const { path } of obtained) files += await unpack(set, path, staging, options.signal);
    await checkForm(set, staging, files, origins);
    const sources = obtained.map(({ source }) => source);
    const manifest = await writeManifest(staging, set, sources);
    await replace(join(root, set.name), staging);
    await rm(downloads, { recursive: true, force: true });
    return manifest;
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

/** Addresses stay what they are; a path of the user's is never mistaken for one of the Hub. */
function whole(from: string): string {
  return /^https?:\/\//.test(from) ? from : resolve(from);
}

async function checkForm(
  set: DataSet,
  folder: string,
  files: number,
  origins: readonly DataOrigin[],
): Promise<void> {
  const what = origins.map(({ from }) => from).join(', ');
  if (files === 0) {
    throw fileError(`${what} has no file of the set ${set.name}. See ${set.homepage}.`);
  }
  try {
    await set.check(folder);
  } catch (error) {
    throw fileError(`${what} is not the set ${set.name}: ${messageOf(error)}`, error);
  }
}

/** Puts a folder in another one's place; a reader finds the old one, the new one, or for a moment none. */
async function replace(folder: string, staging: string): Promise<void> {
  const aside = `${staging}-old`;
  await rm(aside, { recursive: true, force: true });
  const wasThere = await rename(folder, aside).then(
    () => true,
    (error: unknown) => {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
      throw error;
    },
  );
  await rename(staging, folder);
  if (wasThere) await rm(aside, { recursive: true, force: true });
}

function notGivenAway({ name, licence, homepage }: DataSet): AccelError {
  return fileError(
    `${name} cannot be downloaded (${licence}). If you have the file, import it: accel data pull ${name} --from <file>. How it is made: ${homepage}`,
  );
}
