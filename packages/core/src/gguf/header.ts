import { damaged, type TensorInfo } from '../weights/header.js';
import { type ByteSource, Cursor } from './cursor.js';
import { Metadata, skipValue } from './metadata.js';
import { type TensorType, tensorTypes } from './tensor-types.js';

/** A GGUF file's own description. */
export interface GgufHeader {
  readonly metadata: Metadata;
  /** Shapes are `[out, in]`, the other way round than ggml's. */
  readonly tensors: readonly TensorInfo[];
}

/** "GGUF" */
const MAGIC = 0x46554747;
const MAX_PAIRS = 2 ** 16;
const MAX_TENSORS = 2 ** 16;
/** The format allows 64 KiB; keys that are in use have fewer than 100. */
const MAX_KEY_BYTES = 1024;
/** ggml's own limit is 64. */
const MAX_NAME_BYTES = 255;
const MAX_RANK = 4;
/** The fewest bytes that a pair and a tensor take in the header. */
const LEAST_PAIR = 8 + 4 + 1;
const LEAST_TENSOR = 8 + 4 + 8 + 4 + 8;

/**
 * Reads and checks everything in front of the tensor data (versions 2 and 3, little endian; format:
 * https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). Memory is bounded by the file's size: counts, lengths and
 * offsets are compared with it first, and values of metadata stay in the file until they are asked for.
 * @param file name for messages
 * @throws AccelError `ERR_ACCEL_WEIGHTS`
 */
export function parseGguf(file: string, source: ByteSource): GgufHeader {
  const cursor = new Cursor(file, source);
  checkVersion(file, cursor);
  const tensorCount = cursor.u64();
  const pairCount = cursor.u64();
  checkCount(file, 'tensors', tensorCount, MAX_TENSORS, cursor.left / LEAST_TENSOR);
  checkCount(file, 'key-value pairs', pairCount, MAX_PAIRS, cursor.left / LEAST_PAIR);

  const values = new Map<string, ReturnType<typeof skipValue>>();
  for (let i = 0; i < pairCount; i++) {
    const key = cursor.text(MAX_KEY_BYTES);
    if (values.has(key)) throw damaged(file, `has the key ${JSON.stringify(key)} twice`);
    values.set(key, skipValue(file, cursor, key));
  }
  const metadata = new Metadata(file, source, values);
  const alignment = readAlignment(file, metadata);
  const described = Array.from({ length: tensorCount }, () => readTensor(file, cursor));
  // Data begins at the next multiple; a file without tensors may end before it.
  const dataStart = Math.ceil(cursor.at / alignment) * alignment;
  const tensors = described.map((tensor) =>
    placeTensor(file, tensor, dataStart, alignment, source.byteLength),
  );
  checkOverlap(file, tensors);
  return { metadata, tensors };
}

function checkVersion(file: string, cursor: Cursor): void {
  if (cursor.left < 24 || cursor.u32() !== MAGIC) {
    throw damaged(file, 'does not begin as a GGUF file does ("GGUF", version, counts)');
  }
  const version = cursor.u32();
  if (version === 2 || version === 3) return;
  const why =
    version !== 0 && version % 2 ** 16 === 0
      ? 'is a big-endian GGUF file; only little-endian ones are read'
      : `has GGUF version ${version}; versions 2 and 3 are read`;
  throw damaged(file, `${why}. If it is not damaged, convert the checkpoint again`);
}

function checkCount(file: string, what: string, count: number, most: number, fit: number): void {
  if (count <= Math.min(most, fit)) return;
  const why = count > most ? `at most ${most} are read` : 'more than its bytes can describe';
  throw damaged(file, `claims to have ${count} ${what}, ${why}`);
}

function readAlignment(file: string, metadata: Metadata): number {
  const alignment = metadata.number('general.alignment') ?? 32;
  const good = Number.isInteger(alignment) && alignment >= 1 && alignment <= 2 ** 20;
  if (good && (alignment & (alignment - 1)) === 0) return alignment;
  throw damaged(file, `has general.alignment ${alignment}, which must be a power of two`);
}

interface Described {
  readonly name: string;
  readonly shape: readonly number[];
  readonly type: TensorType;
  /** From the start of the data. */
  readonly offset: number;
}

function readTensor(file: string, cursor: Cursor): Described {
  const name = cursor.text(MAX_NAME_BYTES);
  const rank = cursor.u32();
  if (rank < 1 || rank > MAX_RANK) {
    throw damaged(file, `gives tensor ${JSON.stringify(name)} ${rank} dimensions`);
  }
  const extents = Array.from({ length: rank }, () => cursor.u64());
  const id = cursor.u32();
  const type = tensorTypes.get(id);
  if (type === undefined) {
    throw damaged(
      file,
      `gives tensor ${JSON.stringify(name)} the type ${id}, which is unknown here. If it comes from a newer program, take a file quantised as Q8_0 or Q4_K_M`,
    );
  }
  return { name, shape: extents.reverse(), type, offset: cursor.u64() };
}

function placeTensor(
  file: string,
  { name, shape, type, offset }: Described,
  dataStart: number,
  alignment: number,
  fileBytes: number,
): TensorInfo {
  const quoted = `tensor ${JSON.stringify(name)}`;
  if ((shape[shape.length - 1] ?? 0) % type.elements !== 0) {
    throw damaged(
      file,
      `gives ${quoted} the shape [${shape.join(', ')}], but rows in ${type.name} are multiples of ${type.elements}`,
    );
  }
  // Exact, because a product of extents may pass 2^53, where doubles lose whole numbers.
  const elements = shape.reduce((product, extent) => product * BigInt(extent), 1n);
  const bytes = (elements / BigInt(type.elements)) * BigInt(type.bytes);
  if (bytes === 0n || bytes > BigInt(fileBytes) || offset > fileBytes - dataStart - Number(bytes)) {
    throw damaged(
      file,
      `places ${quoted} ([${shape.join(', ')}] in ${type.name}, ${bytes} bytes) at byte ${dataStart + offset} of ${fileBytes}`,
    );
  }
  if (offset % alignment !== 0) {
    throw damaged(
      file,
      `places ${quoted} at offset ${offset}, which is no multiple of ${alignment}`,
    );
  }
  return {
    name,
    file,
    storedAs: type.name,
    dtype: type.dtype,
    ...(type.packed && { packed: type.packed }),
    shape,
    byteOffset: dataStart + offset,
    byteLength: Number(bytes),
  };
}

/** Between tensors there is padding, never an overlap; names are there once. */
function checkOverlap(file: string, tensors: readonly TensorInfo[]): void {
  const names = new Set<string>();
  const sorted = [...tensors].sort((a, b) => a.byteOffset - b.byteOffset);
  let end = 0;
  for (const { name, byteOffset, byteLength } of sorted) {
    if (byteOffset < end) {
      throw damaged(file, `lets tensor ${JSON.stringify(name)} overlap the one before it`);
    }
    if (names.has(name)) throw damaged(file, `has the tensor ${JSON.stringify(name)} twice`);
    names.add(name);
    end = byteOffset + byteLength;
  }
}
