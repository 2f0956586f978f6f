import { readFileSync } from 'node:fs';

/** Element types that occur in reference files. */
export type HostDType = 'F32' | 'F64' | 'F16' | 'BF16' | 'I32' | 'U32' | 'U8';

/** Elements of a {@link HostTensor}; `F16` and `BF16` stay 16-bit patterns. */
export type HostData =
  Float32Array | Float64Array | Uint16Array | Int32Array | Uint32Array | Uint8Array;

/** A tensor in JavaScript memory, row major. */
export interface HostTensor {
  readonly dtype: HostDType;
  readonly shape: readonly number[];
  readonly data: HostData;
}

const ELEMENT = {
  F32: (buffer: ArrayBuffer) => new Float32Array(buffer),
  F64: (buffer: ArrayBuffer) => new Float64Array(buffer),
  F16: (buffer: ArrayBuffer) => new Uint16Array(buffer),
  BF16: (buffer: ArrayBuffer) => new Uint16Array(buffer),
  I32: (buffer: ArrayBuffer) => new Int32Array(buffer),
  U32: (buffer: ArrayBuffer) => new Uint32Array(buffer),
  U8: (buffer: ArrayBuffer) => new Uint8Array(buffer),
} satisfies Record<HostDType, (buffer: ArrayBuffer) => HostData>;

/**
 * Reads a whole safetensors file into typed arrays. For trusted reference files: models are read by `@accel/core`,
 * which checks and maps them.
 */
export function readSafetensors(path: string): ReadonlyMap<string, HostTensor> {
  const file = readFileSync(path);
  const headerBytes = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString('utf8', 8, 8 + headerBytes)) as Record<
    string,
    { dtype: HostDType; shape: number[]; data_offsets: [number, number] }
  >;
  const tensors = new Map<string, HostTensor>();
  for (const [name, { dtype, shape, data_offsets: offsets }] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    const begin = file.byteOffset + 8 + headerBytes;
    // A copy, because typed arrays need aligned offsets.
    const bytes = file.buffer.slice(begin + offsets[0], begin + offsets[1]);
    tensors.set(name, { dtype, shape, data: ELEMENT[dtype](bytes) });
  }
  return tensors;
}

/** What {@link encodeSafetensors} writes. `F16` and `BF16` data are 16-bit patterns. */
export type HostTensors = Readonly<Record<string, HostTensor>>;

/** A safetensors file as bytes, header padded so that data is 8-byte aligned. */
export function encodeSafetensors(tensors: HostTensors): Uint8Array {
  const header: Record<string, unknown> = {};
  let offset = 0;
  for (const [name, { dtype, shape, data }] of Object.entries(tensors)) {
    header[name] = { dtype, shape, data_offsets: [offset, offset + data.byteLength] };
    offset += data.byteLength;
  }
  const json = JSON.stringify(header);
  const text = Buffer.from(json.padEnd(Math.ceil(json.length / 8) * 8, ' '));
  const file = Buffer.alloc(8 + text.length + offset);
  file.writeBigUInt64LE(BigInt(text.length), 0);
  text.copy(file, 8);
  let at = 8 + text.length;
  for (const { data } of Object.values(tensors)) {
    Buffer.from(data.buffer, data.byteOffset, data.byteLength).copy(file, at);
    at += data.byteLength;
  }
  return file;
}
