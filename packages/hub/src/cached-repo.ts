import { randomBytes } from 'node:crypto';
import {
  mkdir,
  readFile,
  readlink,
  realpath,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { dirname, join, relative, resolve, sep } from 'node:path';
import { AccelError } from '@accel/kernels';
import { COMMIT, isDataset } from './names.js';

/**
 * One repository's folder in the cache (`datasets--org--name` for data sets), laid out as every Hugging Face library does:
 *
 * ```
 * models--org--name/
 *   refs/main                        text: the commit that the branch stood for when it was last looked at
 *   blobs/<hash>                     contents, once each, named by SHA-256 (LFS) or git's blob hash
 *   blobs/<hash>.incomplete          the beginning of one
 *   snapshots/<commit>/config.json   symbolic link ../../blobs/<hash>
 * ```
 */
export class CachedRepo {
  /** `org/name` or `datasets/org/name`. */
  readonly repo: string;
  readonly folder: string;
  /** What pulls of this repository lock. Locks lie beside the repositories, where cache tools look for them. */
  readonly lockFile: string;

  constructor(cacheDir: string, repo: string) {
    const name = `${isDataset(repo) ? '' : 'models--'}${repo.replaceAll('/', '--')}`;
    this.repo = repo;
    this.folder = resolve(cacheDir, name);
    this.lockFile = resolve(cacheDir, '.locks', name, 'accel.lock');
  }

  /** Folder of the contents. */
  get blobs(): string {
    return join(this.folder, 'blobs');
  }

  blob(hash: string): string {
    return join(this.blobs, hash);
  }

  incomplete(hash: string): string {
    return `${this.blob(hash)}.incomplete`;
  }

  snapshot(commit: string): string {
    return join(this.folder, 'snapshots', commit);
  }

  /**
   * The commit that a branch or tag stood for when it was last downloaded. A commit stands for itself.
   * @throws AccelError `ERR_ACCEL_FILE` when the cache's note of it is damaged
   */
  async commitOf(revision: string): Promise<string | undefined> {
    if (COMMIT.test(revision)) return revision;
    const path = this.#ref(revision);
    let commit: string;
    try {
      commit = (await readFile(path, 'utf8')).trim();
    } catch (error) {
      // EISDIR and ENOTDIR: `refs/pr` is a folder when `refs/pr/1` is a revision.
      const { code = '' } = error as NodeJS.ErrnoException;
      if (['ENOENT', 'EISDIR', 'ENOTDIR'].includes(code)) return undefined;
      throw error;
    }
    if (COMMIT.test(commit)) return commit;
    throw new AccelError(
      'ERR_ACCEL_FILE',
      `${path} should hold the hash of a commit. Delete the file and pull ${this.repo} again.`,
    );
  }

  /** Notes which commit a branch or tag stands for now. Readers see the old one or the new one, never a part. */
  async writeRef(revision: string, commit: string): Promise<void> {
    if (COMMIT.test(revision) || (await this.commitOf(revision).catch(() => undefined)) === commit)
      return;
    const path = this.#ref(revision);
    await mkdir(dirname(path), { recursive: true });
    const temporary = unique(path);
    await writeFile(temporary, commit);
    await rename(temporary, path);
  }

  /** True when a snapshot has this file, whole as far as its size tells. */
  async has(commit: string, file: string, size: number): Promise<boolean> {
    return (await sizeOf(join(this.snapshot(commit), file))) === size;
  }

  /**
   * Puts a blob into a snapshot under its name.
   * @throws AccelError `ERR_ACCEL_FILE` when links cannot be made here, or a folder of the snapshot is a link elsewhere
   */
  async link(commit: string, file: string, hash: string): Promise<void> {
    const path = join(this.snapshot(commit), file);
    const folder = dirname(path);
    await mkdir(folder, { recursive: true });
    await this.#refuseDetour(commit, folder);
    const target = relative(folder, this.blob(hash));
    if ((await readlink(path).catch(() => undefined)) === target) return;
    const temporary = unique(path);
    try {
      await symlink(target, temporary);
      // A rename replaces what is there, so no reader finds the file missing.
      await rename(temporary, path);
    } catch (error) {
      await rm(temporary, { force: true });
      throw new AccelError(
        'ERR_ACCEL_FILE',
        `Cannot link ${path} to its contents: ${(error as Error).message}. The cache needs a file system with symbolic links; choose another folder with HF_HUB_CACHE.`,
        { cause: error },
      );
    }
  }

  #ref(revision: string): string {
    return join(this.folder, 'refs', revision);
  }

  /** A link among a snapshot's folders would let a file name write anywhere. */
  async #refuseDetour(commit: string, folder: string): Promise<void> {
    const snapshot = this.snapshot(commit);
    const below = relative(snapshot, folder);
    const expected = join(await realpath(this.folder), 'snapshots', commit, below);
    if ((await realpath(folder)) === expected) return;
    throw new AccelError(
      'ERR_ACCEL_FILE',
      `${folder} leads out of the snapshot through a symbolic link. Delete ${snapshot}${sep} and pull again.`,
    );
  }
}

/** Bytes of a file, links followed; undefined when there is none. */
export async function sizeOf(path: string): Promise<number | undefined> {
  try {
    const found = await stat(path);
    return found.isFile() ? found.size : undefined;
  } catch {
    return undefined;
  }
}

function unique(path: string): string {
  return `${path}.${randomBytes(4).toString('hex')}.tmp`;
}
