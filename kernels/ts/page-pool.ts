import { native, values } from './native.js';
import { Resource } from './resource.js';
import type { Stream } from './stream.js';

/** Options of {@link PagePool}. */
export interface PagePoolOptions {
  /** Size of a page, a multiple of 64. 16 rows of keys is a good size: `16 * headDim * dtypeBytes(dtype)`. */
  readonly pageBytes: number;
  /** Most that all pages together may take. Memory is only used once a page is written to. */
  readonly capacityBytes: number;
}

/** Fixed-size pages for the caches of many sequences. Belongs to one stream: all work on its pages goes there. */
export class PagePool extends Resource {
  readonly stream: Stream;
  readonly pageBytes: number;

  /** @throws AccelError `ERR_ACCEL_ARGUMENT`, `ERR_ACCEL_OUT_OF_MEMORY` */
  constructor(stream: Stream, options: PagePoolOptions) {
    super(native().poolCreate(stream.id, options.pageBytes, options.capacityBytes));
    this.stream = stream;
    this.pageBytes = options.pageBytes;
  }

  /** Bytes of the pages that sequences hold now. A page shared by forks counts once. */
  get usedBytes(): number {
    return this.#bytes(0);
  }

  /** The highest {@link usedBytes} since the pool was made or {@link resetPeak} was called. */
  get peakBytes(): number {
    return this.#bytes(1);
  }

  /** `capacityBytes` of the options, in whole pages. */
  get capacityBytes(): number {
    return this.#bytes(2);
  }

  resetPeak(): void {
    native().poolResetPeak(this.id);
  }

  /** Gives the memory behind free pages back to the system, in stream order. */
  trim(): void {
    native().poolTrim(this.id);
  }

  #bytes(index: number): number {
    native().poolBytes(this.id);
    return values()[index] ?? 0;
  }
}
