import { native } from './native.js';
import { Stream } from './stream.js';

/** What a device is and how much memory it has left. */
export interface DeviceInfo {
  /** What {@link Device.open} takes: `'cpu'`, `'cuda:0'`. */
  readonly id: string;
  readonly kind: 'cpu' | 'cuda';
  /** The maker's name of it. */
  readonly name: string;
  /** The instruction set its kernels use: `base`, `avx2`, `avx512`, `avx512bf16`. */
  readonly isa: string;
  /** Compute threads (CPU). */
  readonly threads: number;
  /** Bytes, of the machine or of the control group this process is limited to. */
  readonly memory: { readonly total: number; readonly free: number };
}

/** The devices of this machine, the CPU first. Without a usable GPU and its backend library that is all. */
export function devices(): DeviceInfo[] {
  return native().devices();
}

const opened = new Map<number, Device>();

/** A device to compute on. Devices live as long as the process; opening one twice gives the same object. */
export class Device {
  /** @internal */ readonly index: number;

  private constructor(index: number) {
    this.index = index;
  }

  /**
   * @param id as listed by {@link devices}, default `'cpu'`; `'cuda'` is the first GPU
   * @throws AccelError `ERR_ACCEL_NO_DEVICE`; `ERR_ACCEL_ARGUMENT` when `ACCEL_CPU_ISA` or `ACCEL_THREADS` is not
   *   possible here
   */
  static open(id = 'cpu'): Device {
    const index = native().openDevice(id);
    let device = opened.get(index);
    if (device === undefined) opened.set(index, (device = new Device(index)));
    return device;
  }

  /** This device's entry in {@link devices}, as of now. */
  get info(): DeviceInfo {
    const info = devices()[this.index];
    if (info === undefined) throw new RangeError('unreachable: devices never go away');
    return info;
  }

  /** A new in-order queue of work on this device. */
  createStream(): Stream {
    return new Stream(this, native().streamCreate(this.index));
  }
}
