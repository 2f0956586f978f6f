import type { DeviceInfo } from './device.js';
import { AccelError } from './errors.js';
import { loadAddon } from './loader.js';
import type { GraphCounts } from './stream.js';

/** @internal An op as the addon describes it. */
interface NativeOp {
  readonly name: string;
  readonly signature: string;
  readonly id: number;
  /** Whether it has a function for the device. */
  readonly cpu: boolean;
  readonly cuda: boolean;
}

/** @internal A library as the addon describes it. */
export interface NativeLibrary {
  readonly name: string;
  readonly version: string;
  readonly ops: readonly NativeOp[];
}

/**
 * @internal The functions of the addon (src/node). Objects of the addon are numbers; 0 is a disposed one. dtypes are
 * positions in `DTYPES`, devices positions in `devices()`. Shapes and lists travel in the shared values array.
 */
export interface Native {
  setup(errorClass: typeof AccelError, backendFolder: string): void;
  setValues(values: Float64Array): void;
  devices(): DeviceInfo[];
  openDevice(id: string): number;
  deviceInfo(device: number): DeviceInfo;
  deviceResetPeak(device: number): void;
  dispose(object: number): void;
  streamCreate(device: number): number;
  streamSync(stream: number): Promise<void>;
  streamKernels(stream: number): Record<string, number>;
  streamGraphBegin(stream: number): void;
  streamGraphEnd(stream: number): void;
  streamGraphs(stream: number): GraphCounts;
  tensorEmpty(device: number, dtype: number, ndim: number): number;
  tensorFrom(device: number, dtype: number, ndim: number, data: ArrayBufferView): number;
  tensorView(tensor: number, ndim: number): number;
  tensorSlice(tensor: number, begin: number, end: number): number;
  tensorWrite(stream: number, tensor: number, data: ArrayBufferView): void;
  tensorRead(stream: number, tensor: number): Promise<ArrayBuffer>;
  tensorTo(tensor: number, stream: number): number;
  fileOpen(path: string): number;
  fileSize(file: number): number;
  fileTensor(file: number, device: number, dtype: number, ndim: number, offset: number): number;
  fileBytes(file: number, offset: number, length: number): ArrayBuffer;
  poolCreate(stream: number, pageBytes: number, capacityBytes: number): number;
  poolBytes(pool: number): void;
  poolResetPeak(pool: number): void;
  poolTrim(pool: number): void;
  kvCreate(
    pool: number,
    layers: number,
    heads: number,
    headDim: number,
    dtype: number,
    tallies: number,
    positions: number,
  ): number;
  kvReserve(sequence: number, layer: number, rows: number): void;
  kvDrop(sequence: number, layer: number, at: number, count: number): void;
  kvCanDrop(sequence: number, layer: number, at: number, count: number): boolean;
  kvTruncate(sequence: number, layer: number, rows: number): void;
  kvRows(sequence: number, layer: number, head: number): number;
  kvEncodeBegin(
    sequence: number,
    layer: number,
    keyBlock: number,
    keysKept: number,
    valueBlock: number,
    valuesKept: number,
  ): void;
  kvEncodeEnd(sequence: number, layer: number, done: number): void;
  kvEncoded(sequence: number, layer: number, head: number): void;
  kvRestore(sequence: number, layer: number): void;
  kvBytes(sequence: number): void;
  kvFork(sequence: number): number;
  kvOwn(sequence: number, layer: number): void;
  kvCompact(sequence: number, layer: number, index: number): void;
  builtinLibrary(): NativeLibrary;
  loadLibrary(path: string): NativeLibrary;
  run(stream: number, op: number, args: number, valuesUsed: number): void;
}

let loaded: Native | undefined;
let shared = new Float64Array(4096);

/** @internal The addon; loaded on first use, so that importing the package costs nothing. */
export function native(): Native {
  if (loaded === undefined) {
    const found = loadAddon();
    const addon = found.addon as Native;
    addon.setup(AccelError, found.folder);
    addon.setValues(shared);
    loaded = addon;
  }
  return loaded;
}

/** @internal The array that carries shapes and op arguments to the addon and small results back. */
export function values(): Float64Array {
  return shared;
}

/** @internal A values array of at least `size` numbers that starts with those of the present one. */
export function growValues(size: number): Float64Array {
  const larger = new Float64Array(Math.max(size, 2 * shared.length));
  larger.set(shared);
  native().setValues(larger);
  shared = larger;
  return shared;
}

/** @internal Writes a shape for the addon; returns its number of dimensions. */
export function putShape(shape: readonly number[]): number {
  if (shape.length > 8) {
    throw new AccelError(
      'ERR_ACCEL_SHAPE',
      `A tensor has at most 8 dimensions, not ${shape.length}.`,
    );
  }
  for (let i = 0; i < shape.length; i++) shared[i] = shape[i] ?? Number.NaN;
  return shape.length;
}

/** @internal `value`, which must be a whole number from 0 to 2^31 - 1. */
export function whole(value: number, name: string): number {
  if (value >= 0 && value <= 0x7fffffff && Number.isInteger(value)) return value;
  throw new AccelError(
    'ERR_ACCEL_ARGUMENT',
    `${name} is ${value}; it must be a whole number from 0 to 2147483647.`,
  );
}
