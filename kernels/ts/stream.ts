import type { Device } from './device.js';
import { AccelError } from './errors.js';
import { KvArg } from './kv-arg.js';
import { growValues, native, values } from './native.js';
import type { Op } from './op-library.js';
import { Resource } from './resource.js';
import { Tensor } from './tensor.js';

/** What an op takes. `null` is an absent optional tensor. */
export type OpArg = Tensor | null | number | Int32Array | KvArg;

// How arguments are written for the addon (src/node/ops.cc); the numbers are those of accel_arg_kind in accel/op.h.
const ABSENT = 0;
const TENSOR = 1;
const NUMBER = 3;
const INTS = 4;
const KV = 5;
/** Room for all arguments that are not lists. */
const SPARE = 64;

/** What became of the calls of {@link Stream.graph}, on a device that has graphs. */
export interface GraphCounts {
  /** Graphs that were made. */
  readonly captured: number;
  /** Calls that were replayed. */
  readonly replayed: number;
  /** Calls that ran op by op. */
  readonly eager: number;
  /** Why, the last time a call could not be captured. */
  readonly reason?: string;
}

/**
 * An in-order queue of work with a thread of its own. Enqueuing returns at once; the event loop is never blocked.
 *
 * When an op fails, everything enqueued after it is skipped until the next {@link synchronize} or `Tensor.read`, which
 * rejects with the error; then the stream is usable again. What skipped ops should have written is undefined.
 */
export class Stream extends Resource {
  readonly device: Device;
  #inGraph = false;

  /** @internal Use {@link Device.createStream}. */
  constructor(device: Device, id: number) {
    super(id);
    this.device = device;
  }

  /**
   * Enqueues an op. Everything but the data itself is checked now. Int32Arrays are copied; tensors must stay
   * unchanged until the op has run, but may be disposed at once.
   * @throws AccelError `ERR_ACCEL_ARGUMENT`, `ERR_ACCEL_SHAPE`, `ERR_ACCEL_DTYPE`, `ERR_ACCEL_DISPOSED`; then nothing
   *   was enqueued
   */
  run(op: Op, ...args: readonly OpArg[]): void {
    let to = values();
    let used = 0;
    for (const arg of args) {
      if (typeof arg === 'number') {
        to[used++] = NUMBER;
        to[used++] = arg;
      } else if (arg === null) {
        to[used++] = ABSENT;
      } else if (arg instanceof Tensor) {
        to[used++] = TENSOR;
        to[used++] = arg.id;
      } else if (arg instanceof Int32Array) {
        const size = used + arg.length + SPARE;
        if (size > to.length) to = growValues(size);
        to[used++] = INTS;
        to[used++] = arg.length;
        to.set(arg, used);
        used += arg.length;
      } else if (arg instanceof KvArg) {
        const size = used + arg.layers.length + arg.sequences.length + SPARE;
        if (size > to.length) to = growValues(size);
        to[used++] = KV;
        to[used++] = arg.layers.length;
        for (const layer of arg.layers) to[used++] = layer;
        to[used++] = arg.sequences.length;
        for (const sequence of arg.sequences) to[used++] = sequence.id;
      } else {
        throw new AccelError(
          'ERR_ACCEL_ARGUMENT',
          `${op.name} (${op.signature}) was given ${typeof arg}; ops take tensors, null, numbers, Int32Arrays and KV arguments.`,
        );
      }
    }
    native().run(this.id, op.id, args.length, used);
  }

  /**
   * Runs `fn`, which enqueues ops that are likely to come again: the same ops with the same tensors, numbers and lists,
   * and caches of the same sequences that may have grown in between. When they do, a GPU replays them as one CUDA graph,
   * which saves most of the time between small kernels. The first time they run one by one, the second time they are
   * recorded. On the CPU this just runs `fn`.
   *
   * `fn` must only enqueue ops: a `write`, a `read`, a synchronize or a copy of shared pages makes the call run op by op.
   * A call inside `fn` belongs to the outer one.
   */
  graph(fn: () => void): void {
    if (this.#inGraph) {
      fn();
      return;
    }
    native().streamGraphBegin(this.id);
    this.#inGraph = true;
    try {
      fn();
    } finally {
      this.#inGraph = false;
      if (this.id !== 0) native().streamGraphEnd(this.id);
    }
  }

  /** How often {@link graph} recorded and replayed since the stream was created; all 0 on the CPU. */
  graphs(): GraphCounts {
    return native().streamGraphs(this.id);
  }

  /**
   * Resolves when everything enqueued so far has run.
   * @throws AccelError rejects with the first error since the last synchronize or read
   */
  async synchronize(): Promise<void> {
    await native().streamSync(this.id);
  }

  /** How often each kernel ran since the stream was created. */
  kernels(): Record<string, number> {
    return native().streamKernels(this.id);
  }
}
