import type { Device } from './device.js';
import {
  dtypeBytes,
  dtypeIndex,
  encode,
  naturalDType,
  type DType,
  type TypedArray,
} from './dtype.js';
import { native, putShape } from './native.js';
import { Resource } from './resource.js';
import type { Stream } from './stream.js';

/** A dense, row-major array on a device. Views and slices share its memory, which goes when the last of them does. */
export class Tensor extends Resource {
  readonly device: Device;
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** Number of elements. */
  readonly size: number;

  /** @internal Use {@link Tensor.empty}, {@link Tensor.from} or `MappedFile.tensor`. */
  constructor(device: Device, id: number, dtype: DType, shape: readonly number[]) {
    super(id);
    this.device = device;
    this.dtype = dtype;
    this.shape = shape;
    let size = 1;
    for (const extent of shape) size *= extent;
    this.size = size;
  }

  /**
   * An uninitialised tensor.
   * @throws AccelError `ERR_ACCEL_OUT_OF_MEMORY`, `ERR_ACCEL_SHAPE`
   */
  static empty(device: Device, dtype: DType, shape: readonly number[]): Tensor {
    const id = native().tensorEmpty(device.index, dtypeIndex(dtype), putShape(shape));
    return new Tensor(device, id, dtype, shape.slice());
  }

  /**
   * A tensor with a copy of `data`.
   * @param dtype default: the array's own type. A `Float32Array` is rounded to `bfloat16` or `float16` (nearest, ties
   *   to even) when one of these is named; a `Uint16Array` holds the bits of such numbers and needs the name.
   * @throws AccelError `ERR_ACCEL_SHAPE` when `data` does not fill `shape`, `ERR_ACCEL_DTYPE`, `ERR_ACCEL_OUT_OF_MEMORY`
   */
  static from(
    device: Device,
    data: TypedArray,
    shape: readonly number[],
    dtype: DType = naturalDType(data),
  ): Tensor {
    const elements = encode(data, dtype);
    const id = native().tensorFrom(device.index, dtypeIndex(dtype), putShape(shape), elements);
    return new Tensor(device, id, dtype, shape.slice());
  }

  get byteLength(): number {
    return this.size * dtypeBytes(this.dtype);
  }

  /**
   * The same elements in another shape. Shares memory.
   * @throws AccelError `ERR_ACCEL_SHAPE` when the number of elements differs
   */
  view(shape: readonly number[]): Tensor {
    const id = native().tensorView(this.id, putShape(shape));
    return new Tensor(this.device, id, this.dtype, shape.slice());
  }

  /**
   * Rows `[begin, end)` of the first dimension. Shares memory.
   * @throws AccelError `ERR_ACCEL_SHAPE` when there are not so many
   */
  slice(begin: number, end: number): Tensor {
    const id = native().tensorSlice(this.id, begin, end);
    const shape = this.shape.slice();
    shape[0] = end - begin;
    return new Tensor(this.device, id, this.dtype, shape);
  }

  /**
   * The same elements on the stream's device: this very tensor when it is there already, else a copy that is enqueued.
   * The event loop is never blocked, and this tensor may be disposed at once. For a tensor of a mapped file the copy
   * reads the file. Only from the CPU: use {@link read} for the other way.
   * @throws AccelError `ERR_ACCEL_OUT_OF_MEMORY`; `ERR_ACCEL_ARGUMENT` when the tensor is on another GPU
   */
  to(stream: Stream): Tensor {
    if (stream.device === this.device) return this;
    return new Tensor(stream.device, native().tensorTo(this.id, stream.id), this.dtype, this.shape);
  }

  /**
   * Enqueues overwriting all elements with a copy of `data`, converted as by {@link Tensor.from}.
   * @throws AccelError `ERR_ACCEL_SHAPE`, `ERR_ACCEL_DTYPE`, `ERR_ACCEL_DISPOSED`
   */
  write(stream: Stream, data: TypedArray): void {
    native().tensorWrite(stream.id, this.id, encode(data, this.dtype));
  }

  /**
   * The elements as they are when everything enqueued so far has run. bfloat16 and float16 arrive as float32.
   * @throws AccelError rejects with the stream's error, if there is one
   */
  async read(stream: Stream): Promise<Float32Array | Float64Array | Int32Array | Uint8Array> {
    const buffer = await native().tensorRead(stream.id, this.id);
    switch (this.dtype) {
      case 'int32':
        return new Int32Array(buffer);
      case 'uint8':
        return new Uint8Array(buffer);
      case 'float64':
        return new Float64Array(buffer);
      default:
        return new Float32Array(buffer);
    }
  }
}
