import { closeSync, existsSync, fstatSync, openSync, readdirSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { AccelError, MappedFile, type Tensor } from '@accel/kernels';
import { attempt } from './attempt.js';
import { damaged, headerLength, parseHeader, type TensorInfo } from './header.js';
import { readShardIndex } from './shard-index.js';
import type { StoredWeight, WeightSource } from './source.js';

const SINGLE = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';

/**
 * Opens the weights of a model folder: `model.safetensors`, or the shards that `model.safetensors.index.json` lists.
 * All headers are read and checked at once; tensor data stays on disk until it is used.
 * @throws AccelError `ERR_ACCEL_FILE` when a file cannot be read, `ERR_ACCEL_WEIGHTS` when one is damaged
 */
export function openWeights(path: string): Weights {
  const single = join(path, SINGLE);
  if (existsSync(single)) return new Weights(path, readHeader(single));
  const index = join(path, INDEX);
  if (existsSync(index)) return new Weights(path, readShards(path, index));
  if (!existsSync(path)) {
    throw new AccelError('ERR_ACCEL_FILE', `There is no folder ${path}. Check the model path.`);
  }
  const others = listWeightFiles(path);
  throw new AccelError(
    'ERR_ACCEL_FILE',
    `${path} has neither ${SINGLE} nor ${INDEX}${others === '' ? '' : ` (but ${others})`}. ` +
      'Weights are read from safetensors files; convert others, for example with save_pretrained(safe_serialization=True).',
  );
}

/** The checked contents of a model's weight files. Files are mapped into memory when a tensor of theirs is first asked for. */
export class Weights implements WeightSource {
  /** Folder the weights are in. */
  readonly path: string;
  readonly #infos: ReadonlyMap<string, TensorInfo>;
  readonly #files = new Map<string, MappedFile>();
  #disposed = false;

  /** @internal Use {@link openWeights}. */
  constructor(path: string, infos: readonly TensorInfo[]) {
    this.path = path;
    this.#infos = new Map(infos.map((info) => [info.name, info]));
  }

  /** Names of all tensors. */
  get names(): readonly string[] {
    return [...this.#infos.keys()];
  }

  has(name: string): boolean {
    return this.#infos.has(name);
  }

  /** Format, shape and place of a tensor. */
  info(name: string): TensorInfo {
    const info = this.#infos.get(name);
    if (info !== undefined) return info;
    throw new AccelError(
      'ERR_ACCEL_WEIGHTS',
      `${this.path} has no tensor ${name}. See names for the ${this.#infos.size} it has.`,
    );
  }

  /**
   * A tensor that reads the mapped file, without a copy if the file keeps it aligned. It stays valid after
   * {@link dispose}: the mapping lives as long as a tensor of it.
   */
  tensor(name: string): Tensor {
    const { file, dtype, storedAs, shape, byteOffset } = this.info(name);
    if (dtype === undefined) {
      throw new AccelError(
        'ERR_ACCEL_WEIGHTS',
        `${file}: ${name} is stored as ${storedAs}, which cannot be computed with. Convert it to F32, F16 or BF16.`,
      );
    }
    return this.#map(file).tensor(dtype, shape, byteOffset);
  }

  weight(name: string): StoredWeight {
    const { file, packed, shape, byteOffset, byteLength } = this.info(name);
    if (packed === undefined) return { data: this.tensor(name), shape };
    const rows = shape.slice(0, -1).reduce((product, extent) => product * extent, 1);
    const data = this.#map(file).tensor('uint8', [rows, byteLength / rows], byteOffset);
    return { data, shape, packed };
  }

  #map(file: string): MappedFile {
    if (this.#disposed) {
      throw new AccelError('ERR_ACCEL_DISPOSED', 'The weights were disposed. Open them again.');
    }
    let mapped = this.#files.get(file);
    if (mapped === undefined) {
      mapped = MappedFile.open(file);
      this.#files.set(file, mapped);
    }
    return mapped;
  }

  /** Closes the files. Idempotent. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const file of this.#files.values()) file.dispose();
    this.#files.clear();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** @internal Reads and checks the header of one file with plain file reads. */
export function readHeader(file: string): TensorInfo[] {
  const descriptor = attempt(file, () => openSync(file, 'r'));
  try {
    const { size } = attempt(file, () => fstatSync(descriptor));
    const prefix = readExactly(descriptor, file, 0, Math.min(8, size));
    const json = readExactly(descriptor, file, 8, headerLength(file, prefix, size));
    return parseHeader(file, json, size);
  } finally {
    closeSync(descriptor);
  }
}

function readShards(path: string, index: string): TensorInfo[] {
  const shards = readShardIndex(index);
  const infos: TensorInfo[] = [];
  for (const [shard, names] of shards) {
    const file = join(path, shard);
    if (!existsSync(file)) {
      throw new AccelError(
        'ERR_ACCEL_WEIGHTS',
        `${index} names the shard ${shard}, which is not there. Fetch all ${shards.size} shards.`,
      );
    }
    const found = new Map(readHeader(file).map((info) => [info.name, info]));
    for (const name of names) {
      const info = found.get(name);
      if (info === undefined) {
        throw damaged(index, `says that tensor ${name} is in ${shard}, which does not have it`);
      }
      infos.push(info);
    }
  }
  return infos;
}

function readExactly(descriptor: number, file: string, from: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let done = 0;
  while (done < length) {
    const read = attempt(file, () => readSync(descriptor, bytes, done, length - done, from + done));
    if (read === 0) throw damaged(file, 'ended while its header was read');
    done += read;
  }
  return bytes;
}

function listWeightFiles(path: string): string {
  const names = attempt(path, () => readdirSync(path)).filter((name) =>
    /\.(safetensors|bin|pth?|gguf|ckpt)$/.test(name),
  );
  return names.slice(0, 5).join(', ');
}
