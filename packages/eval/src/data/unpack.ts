import { createReadStream, createWriteStream } from 'node:fs';
import { copyFile, open, readdir, stat } from 'node:fs/promises';
import { join, relative, sep } from 'node:path';
import { Transform, type Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { crc32, createGunzip } from 'node:zlib';
import { AccelError } from '@accel/core';
import yauzl from 'yauzl';
import { fileError, messageOf } from '../errors.js';
import type { DataSet } from './sets.js';

/** Far above what any of the sets has. */
const MOST_BYTES = 4 * 1024 ** 3;

/**
 * Brings the files of a set out of a zip archive, a gzip file, a folder or a single file into a folder. What the set
 * does not know is left out.
 *
 * @returns how many files were brought
 * @throws AccelError ERR_ACCEL_FILE when an archive is damaged or unpacks to more than 4 GiB, ERR_ACCEL_ABORTED
 */
export async function unpack(
  set: DataSet,
  path: string,
  folder: string,
  signal?: AbortSignal,
): Promise<number> {
  const limit = limiter();
  try {
    if ((await stat(path)).isDirectory()) return await fromFolder(set, path, folder, signal);
    const kind = await kindOf(path);
    if (kind === 'zip') return await fromZip(set, path, folder, limit, signal);
    const target = set.member(path.replace(/\.gz$/, '').replaceAll(sep, '/')) ?? onlyFile(set);
    if (target === undefined) return 0;
    const streams = kind === 'gzip' ? [createGunzip(), limit()] : [limit()];
    await pipeline([createReadStream(path), ...streams, createWriteStream(join(folder, target))], {
      signal,
    });
    return 1;
  } catch (error) {
    if (AccelError.isInstance(error)) throw error;
    signal?.throwIfAborted();
    throw fileError(`Cannot read ${path}: ${messageOf(error)}. Check the file.`, error);
  }
}

/** A set of one file takes it under any name. */
function onlyFile(set: DataSet): string | undefined {
  return set.entry === '.' ? undefined : set.entry;
}

async function kindOf(path: string): Promise<'zip' | 'gzip' | 'plain'> {
  await using file = await open(path);
  const { buffer } = await file.read(Buffer.alloc(4), 0, 4, 0);
  if (buffer.toString('latin1') === 'PK\u0003\u0004') return 'zip';
  return buffer[0] === 0x1f && buffer[1] === 0x8b ? 'gzip' : 'plain';
}

async function fromFolder(
  set: DataSet,
  path: string,
  folder: string,
  signal: AbortSignal | undefined,
): Promise<number> {
  let count = 0;
  for (const entry of await readdir(path, { recursive: true, withFileTypes: true })) {
    signal?.throwIfAborted();
    if (!entry.isFile()) continue;
    const file = join(entry.parentPath, entry.name);
    const target = set.member(relative(path, file).replaceAll(sep, '/'));
    if (target === undefined) continue;
    await copyFile(file, join(folder, target));
    count++;
  }
  return count;
}

async function fromZip(
  set: DataSet,
  path: string,
  folder: string,
  limit: () => Transform,
  signal: AbortSignal | undefined,
): Promise<number> {
  const archive = await yauzl.openPromise(path);
  let count = 0;
  try {
    for await (const entry of archive.eachEntry()) {
      // Names are looked at by the set and never used as paths. macOS puts shadows of files beside them.
      const hidden = entry.fileName.startsWith('__MACOSX/');
      const target = hidden ? undefined : set.member(entry.fileName);
      if (target === undefined) continue;
      const content: Readable = await archive.openReadStreamPromise(entry);
      await pipeline([content, checked(entry), limit(), createWriteStream(join(folder, target))], {
        signal,
      });
      count++;
    }
  } finally {
    archive.close();
  }
  return count;
}

/** Compares contents with the checksum that the archive has of them, which the zip library does not. */
function checked(entry: yauzl.Entry): Transform {
  let sum = 0;
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      sum = crc32(chunk, sum);
      done(null, chunk);
    },
    flush(done) {
      done(sum === entry.crc32 ? null : new Error(`${entry.fileName} in it is damaged`));
    },
  });
}

/** A small archive can unpack to more than the disk holds. The streams count together. */
function limiter(): () => Transform {
  let bytes = 0;
  return () =>
    new Transform({
      transform(chunk: Buffer, _encoding, done) {
        bytes += chunk.length;
        if (bytes <= MOST_BYTES) done(null, chunk);
        else done(new Error(`it unpacks to more than ${MOST_BYTES} bytes`));
      },
    });
}
