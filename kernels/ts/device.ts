import { native } from './native.js';
import { Stream } from './stream.js';

/** What a device is and how much memory it has left. */
export interface DeviceInfo {
  /** What {@link Device.open} takes: `'cpu'`, `'cuda:0'`. */
  readonly id: string;
  readonly kind: 'cpu' | 'cuda';
  /** The maker's name of it. */
  readonly name: string;
  /** The instruction set its kernels use: `base`, `avx2`, `avx512`, `avx512bf16`; `sm_90` on CUDA. */
  readonly isa: string;
  /** Compute threads (CPU) or multiprocessors (CUDA). */
  readonly threads: number;
  readonly memory: DeviceMemory;
}

/** Memory of a device in bytes. */
export interface DeviceMemory {
  /** Of the machine, of the control group this process is limited to, or of the GPU. */
  readonly total: number;
  /**
   * What can still be taken, including memory that this process keeps ready for its next tensors. Of a GPU that was not
   * opened yet this is all of it: asking would take memory there.
   */
  readonly free: number;
  /** CUDA: what this process has taken, with memory it keeps ready, and without the driver's own. */
  readonly used?: number;
  /** CUDA: the highest {@link used} since the process began or {@link Device.resetPeak} was called. */
  readonly peak?: number;
  /** CUDA: of {@link used}, what is kept ready for the next tensors; `total - free + idle - used` is what the driver took. */
  readonly idle?: number;
}

/** The devices of this machine, the CPU first. Without a usable GPU and its backend library that is all. */
export function devices(): DeviceInfo[] {
  return native().devices();
}

const opened = new Map<number, Device>();

/** A device to compute on. Devices live as long as the process; opening one twice gives the same object. */
export class Device {
  /** @internal */ readonly index: number;
  readonly kind: 'cpu' | 'cuda';

  private constructor(index: number) {
    this.index = index;
    this.kind = this.info.kind;
  }

  /**
   * @param id as listed by {@link devices}, default `'cpu'`; `'cuda'` is the first GPU
   * @throws AccelError `ERR_ACCEL_NO_DEVICE`; `ERR_ACCEL_DEVICE_UNAVAILABLE` when a GPU was asked for and none can be
   *   used, with the reason; `ERR_ACCEL_ARGUMENT` when `ACCEL_CPU_ISA` or `ACCEL_THREADS` is not possible here
   */
  static open(id = 'cpu'): Device {
    const index = native().openDevice(id);
    let device = opened.get(index);
    if (device === undefined) opened.set(index, (device = new Device(index)));
    return device;
  }

  /** This device's entry in {@link devices}, as of now. */
  get info(): DeviceInfo {
    return native().deviceInfo(this.index);
  }

  /** Makes `info.memory.peak` start again from what is used now. Does nothing where that is not counted. */
  resetPeak(): void {
    native().deviceResetPeak(this.index);
  }

  /** A new in-order queue of work on this device. */
  createStream(): Stream {
    return new Stream(this, native().streamCreate(this.index));
  }
}
