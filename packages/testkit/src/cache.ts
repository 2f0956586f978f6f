import {
  Device,
  KvSequence,
  ops,
  PagePool,
  Tensor,
  type DType,
  type KvShape,
  type Stream,
} from '@accel/kernels';

/** Sizes of a {@link TestCache}. */
export interface TestCacheOptions {
  readonly heads: number;
  readonly headDim: number;
  /** Default 1. */
  readonly layers?: number;
  /** Default `'float32'`. */
  readonly dtype?: DType;
  /** Numbers that follow every row. Default 0. */
  readonly tallies?: number;
  /** Whether rows carry their positions. Default `'stored'`. */
  readonly positions?: KvShape['positions'];
  /** How a codec lays out old rows. Default: there is none. */
  readonly encoded?: KvShape['encoded'];
  /** Default: 16 rows of keys. */
  readonly pageBytes?: number;
  /** Default 16 MiB. */
  readonly capacityBytes?: number;
}

/** A device, a stream, a pool and one sequence's cache: what a test of ops needs instead of a model. */
export class TestCache implements Disposable {
  readonly device: Device;
  readonly stream: Stream;
  readonly pool: PagePool;
  readonly kv: KvSequence;
  readonly heads: number;
  readonly headDim: number;
  readonly dtype: DType;

  constructor(device: string, options: TestCacheOptions) {
    const { heads, headDim, layers = 1, dtype = 'float32', tallies = 0 } = options;
    const { capacityBytes = 16 << 20, positions, encoded } = options;
    this.heads = heads;
    this.headDim = headDim;
    this.dtype = dtype;
    this.device = Device.open(device);
    this.stream = this.device.createStream();
    const { pageBytes = 16 * headDim * (dtype === 'float32' ? 4 : 2) } = options;
    this.pool = new PagePool(this.stream, { pageBytes, capacityBytes });
    const shape = { layers, heads, headDim, dtype, tallies };
    this.kv = new KvSequence(this.pool, {
      ...shape,
      ...(positions && { positions }),
      ...(encoded && { encoded }),
    });
  }

  /** A tensor in this cache's float format. */
  floats(data: Float32Array, shape: readonly number[]): Tensor {
    return Tensor.from(this.device, data, shape, this.dtype);
  }

  empty(shape: readonly number[]): Tensor {
    return Tensor.empty(this.device, this.dtype, shape);
  }

  /** Appends rows `[tokens, heads, headDim]`, rotated already, at positions `first`, `first + 1`, … */
  append(k: Float32Array, v: Float32Array, first: number, layer = 0): void {
    const count = k.length / (this.heads * this.headDim);
    const shape = [count, this.heads, this.headDim];
    const positions = Int32Array.from({ length: count }, (_, i) => first + i);
    using keys = this.floats(k, shape);
    using values = this.floats(v, shape);
    using where = Tensor.from(this.device, positions, [count]);
    this.kv.reserve(layer, count);
    ops.kvAppend(this.stream, this.kv.kv(layer), keys, values, where, Int32Array.of(count));
  }

  /** Original positions of the stored rows of every head. */
  async positions(layer = 0): Promise<number[][]> {
    const counts = Array.from({ length: this.heads }, (_, head) => this.kv.rows(layer, head));
    const most = Math.max(...counts);
    if (most === 0) return counts.map(() => []);
    using out = Tensor.empty(this.device, 'int32', [this.heads, most]);
    ops.kvRead(this.stream, null, null, out, this.kv.kv(layer));
    const all = (await out.read(this.stream)) as Int32Array;
    return counts.map((count, head) => [...all.subarray(head * most, head * most + count)]);
  }

  dispose(): void {
    this.kv.dispose();
    this.pool.dispose();
    this.stream.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Contents of a float tensor, in float32. */
export async function readFloats(tensor: Tensor, stream: Stream): Promise<Float32Array> {
  return (await tensor.read(stream)) as Float32Array;
}
