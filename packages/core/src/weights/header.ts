import { AccelError, type BlockFormat, type DType } from '@accel/kernels';
import { findDuplicateKey } from './json-keys.js';

/** Where a tensor lies in a weight file and what it is; every number was checked against the file. */
export interface TensorInfo {
  readonly name: string;
  readonly file: string;
  /** Format name in the file, for example `BF16`. */
  readonly storedAs: string;
  /** The runtime's format, or undefined when it has none for it. */
  readonly dtype: DType | undefined;
  /** Name of the block format that its rows are quantised in; such a tensor has no `dtype`. */
  readonly packed?: BlockFormat;
  readonly shape: readonly number[];
  /** Offset of the first byte from the start of the file. */
  readonly byteOffset: number;
  readonly byteLength: number;
}

/** Bits of an element and the runtime's name of the format, for every format that safetensors defines. */
const formats: Readonly<Record<string, readonly [bits: number, dtype?: DType]>> = {
  F64: [64, 'float64'],
  F32: [32, 'float32'],
  F16: [16, 'float16'],
  BF16: [16, 'bfloat16'],
  I32: [32, 'int32'],
  U8: [8, 'uint8'],
  I64: [64],
  U64: [64],
  U32: [32],
  I16: [16],
  U16: [16],
  I8: [8],
  BOOL: [8],
  C64: [64],
  F8_E4M3: [8],
  F8_E5M2: [8],
  F8_E8M0: [8],
  F6_E2M3: [6],
  F6_E3M2: [6],
  F4: [4],
};

/** The limit of the reference implementation; a header this big describes about a million tensors. */
export const MAX_HEADER_BYTES = 100_000_000;
const MAX_RANK = 16;

/**
 * Reads the length in the first 8 bytes.
 * @param file name for messages
 * @param fileBytes size of the whole file
 * @returns bytes of JSON that follow
 */
export function headerLength(file: string, prefix: Uint8Array, fileBytes: number): number {
  if (fileBytes < 8 || prefix.length < 8) {
    throw damaged(file, `is ${fileBytes} bytes long, too short for a safetensors file`);
  }
  const view = new DataView(prefix.buffer, prefix.byteOffset, 8);
  const length = view.getBigUint64(0, true);
  if (length > BigInt(Math.min(MAX_HEADER_BYTES, fileBytes - 8)) || length < 2n) {
    throw damaged(
      file,
      `claims a header of ${String(length)} bytes, which ${length < 2n ? 'is too short' : 'does not fit'} (the file has ${fileBytes})`,
    );
  }
  return Number(length);
}

/**
 * Checks a header completely: JSON, names, formats, shapes, and that the tensors fill the rest of the file without
 * overlap or gap. Reads no tensor data.
 * @param json the header's bytes
 */
export function parseHeader(file: string, json: Uint8Array, fileBytes: number): TensorInfo[] {
  const dataStart = 8 + json.length;
  const infos = Object.entries(parseJson(file, json))
    .filter(([name, entry]) => name !== '__metadata__' || checkMetadata(file, entry))
    .map(([name, entry]) => parseEntry(file, name, entry, dataStart, fileBytes));
  checkRanges(file, infos, dataStart, fileBytes);
  return infos;
}

function parseJson(file: string, json: Uint8Array): Record<string, unknown> {
  let text: string;
  let header: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(json);
    header = JSON.parse(text);
  } catch (error) {
    throw damaged(
      file,
      `has a header that is not JSON in UTF-8 (${(error as Error).message})`,
      error,
    );
  }
  if (typeof header !== 'object' || header === null || Array.isArray(header)) {
    throw damaged(file, 'has a header that is not a JSON object');
  }
  const twice = findDuplicateKey(text);
  if (twice !== undefined) throw damaged(file, `names ${quote(twice)} twice in its header`);
  return header as Record<string, unknown>;
}

/** Metadata is a flat map of strings. Always false: it is not a tensor. */
function checkMetadata(file: string, metadata: unknown): false {
  const good =
    typeof metadata === 'object' &&
    metadata !== null &&
    Object.values(metadata).every((value) => typeof value === 'string');
  if (!good) throw damaged(file, 'has a __metadata__ entry that is not a map of strings');
  return false;
}

function parseEntry(
  file: string,
  name: string,
  entry: unknown,
  dataStart: number,
  fileBytes: number,
): TensorInfo {
  if (typeof entry !== 'object' || entry === null) {
    throw damaged(file, `has no description for tensor ${quote(name)}`);
  }
  const { dtype: storedAs, shape, data_offsets: offsets } = entry as Record<string, unknown>;
  const format =
    typeof storedAs === 'string' && Object.hasOwn(formats, storedAs)
      ? formats[storedAs]
      : undefined;
  if (format === undefined || typeof storedAs !== 'string') {
    throw damaged(file, `gives tensor ${quote(name)} the unknown format ${quote(storedAs)}`);
  }
  if (!isCounts(shape) || shape.length > MAX_RANK) {
    throw damaged(file, `gives tensor ${quote(name)} the invalid shape ${quote(shape)}`);
  }
  if (!isCounts(offsets) || offsets.length !== 2) {
    throw damaged(file, `gives tensor ${quote(name)} the invalid data_offsets ${quote(offsets)}`);
  }
  const [begin = 0, end = 0] = offsets;
  if (begin > end || end > fileBytes - dataStart) {
    throw damaged(
      file,
      `places tensor ${quote(name)} at bytes ${begin} to ${end} of ${fileBytes - dataStart}`,
    );
  }
  // Exact, because a product of sizes may pass 2^53, where doubles lose whole numbers.
  const bits = shape.reduce((product, extent) => product * BigInt(extent), BigInt(format[0]));
  if (bits !== BigInt(end - begin) * 8n) {
    throw damaged(
      file,
      `gives tensor ${quote(name)} ${end - begin} bytes, but shape [${shape.join(', ')}] in ${storedAs} takes ${formatBytes(bits)}`,
    );
  }
  return {
    name,
    file,
    storedAs,
    dtype: format[1],
    shape,
    byteOffset: dataStart + begin,
    byteLength: end - begin,
  };
}

/** Tensors must follow each other without gap or overlap up to the end of the file. */
function checkRanges(
  file: string,
  infos: readonly TensorInfo[],
  dataStart: number,
  fileBytes: number,
): void {
  const sorted = [...infos].sort(
    (a, b) => a.byteOffset - b.byteOffset || a.byteLength - b.byteLength,
  );
  let end = dataStart;
  let before = 'the header';
  for (const { name, byteOffset, byteLength } of sorted) {
    if (byteOffset < end) throw damaged(file, `lets tensor ${quote(name)} overlap ${before}`);
    if (byteOffset > end) {
      throw damaged(
        file,
        `has ${byteOffset - end} unused bytes between ${before} and tensor ${quote(name)}`,
      );
    }
    end = byteOffset + byteLength;
    before = `tensor ${quote(name)}`;
  }
  if (end !== fileBytes) {
    throw damaged(file, `has ${fileBytes - end} bytes after ${before} that belong to no tensor`);
  }
}

function isCounts(value: unknown): value is number[] {
  return (
    Array.isArray(value) &&
    value.every(
      (item) => Number.isSafeInteger(item) && (item as number) >= 0 && !Object.is(item, -0),
    )
  );
}

function formatBytes(bits: bigint): string {
  return bits % 8n === 0n
    ? String(bits / 8n)
    : `${String(bits)} bits, which is no whole number of bytes`;
}

/** JSON of a value from the file, cut so that a hostile header cannot flood the message. */
function quote(value: unknown): string {
  const text = value === undefined ? 'nothing' : JSON.stringify(value);
  return text.length > 120 ? `${text.slice(0, 120)}…` : text;
}

/** @internal */
export function damaged(file: string, problem: string, cause?: unknown): AccelError {
  return new AccelError(
    'ERR_ACCEL_WEIGHTS',
    `${file} ${problem}. The file is damaged or incomplete: fetch it again and compare its checksum.`,
    cause === undefined ? undefined : { cause },
  );
}
