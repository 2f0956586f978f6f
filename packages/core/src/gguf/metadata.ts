import { AccelError } from '@accel/kernels';
import { damaged } from '../weights/header.js';
import type { Cursor } from './cursor.js';
import { type ByteSource } from './cursor.js';

/** Numbers of the types of values. */
const STRING = 8;
const ARRAY = 9;
const BOOL = 7;

/** Bytes and name of the types that have a fixed size, by number. */
const scalars: Readonly<Record<number, readonly [bytes: number, name: string]>> = {
  0: [1, 'uint8'],
  1: [1, 'int8'],
  2: [2, 'uint16'],
  3: [2, 'int16'],
  4: [4, 'uint32'],
  5: [4, 'int32'],
  6: [4, 'float32'],
  [BOOL]: [1, 'bool'],
  10: [8, 'uint64'],
  11: [8, 'int64'],
  12: [8, 'float64'],
};

/** Bytes of a text of metadata. Chat templates, the longest there are, have some ten thousand. */
const MAX_TEXT = 2 ** 24;
/** Items of a list that is turned into JavaScript values. The largest vocabularies have 300,000 tokens. */
const MAX_ITEMS = 2 ** 21;

/** Where a value lies in the file; the value itself is read when it is asked for. */
interface Value {
  readonly type: number;
  /** Type and number of the items of a list. */
  readonly item?: { readonly type: number; readonly count: number };
  readonly begin: number;
  readonly end: number;
}

/** Passes over a value, checking every length in it. */
export function skipValue(file: string, cursor: Cursor, key: string): Value {
  const type = cursor.u32();
  if (type !== ARRAY) {
    const begin = cursor.at;
    skipItems(file, cursor, key, type, 1);
    return { type, begin, end: cursor.at };
  }
  const item = { type: cursor.u32(), count: cursor.u64() };
  const begin = cursor.at;
  skipItems(file, cursor, key, item.type, item.count);
  return { type, item, begin, end: cursor.at };
}

function skipItems(file: string, cursor: Cursor, key: string, type: number, count: number): void {
  const least = type === STRING ? 8 : scalars[type]?.[0];
  if (least === undefined) {
    const what =
      type === ARRAY ? 'a list of lists' : `a value of type ${type}, which GGUF does not have`;
    throw damaged(file, `gives ${key} ${what}`);
  }
  if (count > cursor.left / least) {
    throw damaged(file, `gives ${key} ${count} items, but has only ${cursor.left} bytes left`);
  }
  if (type !== STRING) cursor.skip(count * least);
  else for (let i = 0; i < count; i++) cursor.skip(cursor.u64());
}

/**
 * The key-value pairs of a GGUF file. Only their places are held, so that a file costs no more memory than what is
 * asked for. Every getter gives undefined for a key that is not there, and an error for a value of another type.
 */
export class Metadata {
  readonly #file: string;
  readonly #source: ByteSource;
  readonly #values: ReadonlyMap<string, Value>;

  constructor(file: string, source: ByteSource, values: ReadonlyMap<string, Value>) {
    this.#file = file;
    this.#source = source;
    this.#values = values;
  }

  get keys(): readonly string[] {
    return [...this.#values.keys()];
  }

  has(key: string): boolean {
    return this.#values.has(key);
  }

  isList(key: string): boolean {
    return this.#values.get(key)?.item !== undefined;
  }

  text(key: string): string | undefined {
    const value = this.#values.get(key);
    if (value === undefined) return undefined;
    if (value.type !== STRING) throw this.#wrong(key, 'a text');
    const length = value.end - value.begin - 8;
    if (length > MAX_TEXT) throw this.#wrong(key, `a text of at most ${MAX_TEXT} bytes`);
    return Buffer.from(this.#source.bytes(value.begin + 8, length)).toString('utf8');
  }

  boolean(key: string): boolean | undefined {
    const value = this.#values.get(key);
    if (value === undefined) return undefined;
    if (value.type !== BOOL) throw this.#wrong(key, 'true or false');
    return this.#source.bytes(value.begin, 1)[0] !== 0;
  }

  number(key: string): number | undefined {
    const value = this.#values.get(key);
    if (value === undefined) return undefined;
    const size = value.type === BOOL ? undefined : scalars[value.type]?.[0];
    if (size === undefined) throw this.#wrong(key, 'a number');
    return readNumbers(value.type, this.#source.bytes(value.begin, size), 1)[0];
  }

  /** A list of numbers. */
  numbers(key: string): readonly number[] | undefined {
    const value = this.#values.get(key);
    if (value === undefined) return undefined;
    const { item } = value;
    if (item === undefined || item.type === STRING || item.type === BOOL) {
      throw this.#wrong(key, 'a list of numbers');
    }
    this.#limit(key, item.count);
    const bytes = this.#source.bytes(value.begin, value.end - value.begin);
    return readNumbers(item.type, bytes, item.count);
  }

  /** A list of texts. */
  texts(key: string): readonly string[] | undefined {
    const value = this.#values.get(key);
    if (value === undefined) return undefined;
    if (value.item?.type !== STRING) throw this.#wrong(key, 'a list of texts');
    this.#limit(key, value.item.count);
    const bytes = Buffer.from(this.#source.bytes(value.begin, value.end - value.begin));
    const texts: string[] = [];
    for (let at = 0, i = 0; i < value.item.count; i++) {
      // The walk over the header has checked the lengths, so they fit in six bytes.
      const end = at + 8 + bytes.readUIntLE(at, 6);
      texts.push(bytes.toString('utf8', at + 8, end));
      at = end;
    }
    return texts;
  }

  /** An error about the value of a key. */
  error(key: string, problem: string): AccelError {
    return new AccelError('ERR_ACCEL_CONFIG', `${this.#file}: ${key} ${problem}`);
  }

  #limit(key: string, count: number): void {
    if (count > MAX_ITEMS) throw this.#wrong(key, `a list of at most ${MAX_ITEMS} items`);
  }

  #wrong(key: string, wanted: string): AccelError {
    const value = this.#values.get(key);
    const name = (type: number): string =>
      type === STRING ? 'string' : (scalars[type]?.[1] ?? 'list');
    const found = value?.item
      ? `${value.item.count} items of type ${name(value.item.type)}`
      : `a ${name(value?.type ?? ARRAY)}`;
    return this.error(
      key,
      `must be ${wanted}, not ${found}. Convert the checkpoint to GGUF again.`,
    );
  }
}

function readNumbers(type: number, bytes: Uint8Array, count: number): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const read: Readonly<Record<number, (at: number) => number>> = {
    0: (at) => view.getUint8(at),
    1: (at) => view.getInt8(at),
    2: (at) => view.getUint16(at, true),
    3: (at) => view.getInt16(at, true),
    4: (at) => view.getUint32(at, true),
    5: (at) => view.getInt32(at, true),
    6: (at) => view.getFloat32(at, true),
    10: (at) => Number(view.getBigUint64(at, true)),
    11: (at) => Number(view.getBigInt64(at, true)),
    12: (at) => view.getFloat64(at, true),
  };
  const one = read[type];
  const size = scalars[type]?.[0] ?? 0;
  return one === undefined ? [] : Array.from({ length: count }, (_, i) => one(i * size));
}
