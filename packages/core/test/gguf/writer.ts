/** A value of metadata with its GGUF type. */
export type GgufValue =
  | { readonly u32: number }
  | { readonly f32: number }
  | { readonly bool: boolean }
  | { readonly text: string }
  | { readonly texts: readonly string[] }
  | { readonly i32s: readonly number[] }
  | { readonly f32s: readonly number[] };

/** A tensor of a file to be written. */
export interface GgufTensor {
  readonly name: string;
  /** Number of ggml's tensor type. */
  readonly type: number;
  /** `[out, in]`; written the other way round. */
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

/** What {@link ggufBytes} writes. */
export interface GgufContents {
  readonly metadata: Readonly<Record<string, GgufValue>>;
  readonly tensors?: readonly GgufTensor[];
  /** Default 3. */
  readonly version?: number;
}

const ALIGNMENT = 32;

/** Bytes of a GGUF file as llama.cpp's converter would write it. */
export function ggufBytes({ metadata, tensors = [], version = 3 }: GgufContents): Buffer {
  const entries = Object.entries(metadata);
  const header = [
    Buffer.from('GGUF'),
    u32(version),
    u64(tensors.length),
    u64(entries.length),
    ...entries.flatMap(([key, value]) => [string(key), ...valueBytes(value)]),
  ];
  let offset = 0;
  for (const { name, type, shape, data } of tensors) {
    header.push(string(name), u32(shape.length), ...[...shape].reverse().map(u64));
    header.push(u32(type), u64(offset));
    offset = align(offset + data.length);
  }
  const body = tensors.map(({ data }) => pad(Buffer.from(data)));
  return Buffer.concat([pad(Buffer.concat(header)), ...body]);
}

function valueBytes(value: GgufValue): Buffer[] {
  if ('u32' in value) return [u32(4), u32(value.u32)];
  if ('f32' in value) return [u32(6), f32(value.f32)];
  if ('bool' in value) return [u32(7), Buffer.from([Number(value.bool)])];
  if ('text' in value) return [u32(8), string(value.text)];
  const list = (type: number, items: Buffer[]): Buffer[] => [
    u32(9),
    u32(type),
    u64(items.length),
    ...items,
  ];
  if ('texts' in value) return list(8, value.texts.map(string));
  if ('i32s' in value) return list(5, value.i32s.map(u32));
  return list(6, value.f32s.map(f32));
}

const align = (bytes: number): number => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

function pad(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(align(bytes.length) - bytes.length)]);
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0);
  return bytes;
}

export function u64(value: number | bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

function f32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return bytes;
}

export function string(text: string): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([u64(bytes.length), bytes]);
}
