/** Where a model is to run. */
export interface MemoryTarget {
  readonly kind: 'cpu' | 'cuda';
  /** `sm_90` for example; for what the driver takes ({@link driverBytes}). */
  readonly isa?: string;
  /** Multiprocessors of the card; the scratch memory of decoding depends on them. Default 132, those of an H100 or H200. */
  readonly multiprocessors?: number;
}

// What kernels/src/cuda/runtime/memory.cc takes for a tensor, and pages.h for pages.
const SMALL = 2 ** 20;
const SLAB = 8 * 2 ** 20;
const UNIT = 2 * 2 ** 20;
const PAGE_CHUNK = 32 * 2 ** 20;

/** Memory that tensors of such sizes take on a device: small ones are cut from slabs on a GPU, large ones are rounded up. */
export function heapBytes(kind: MemoryTarget['kind'], sizes: Iterable<number>): number {
  let [large, small] = [0, 0];
  for (const size of sizes) {
    if (kind === 'cpu') large += size;
    else if (size >= SMALL) large += roundUp(size, UNIT);
    else small += smallBlock(size);
  }
  return large + roundUp(small, SLAB);
}

/** Memory behind pages of a pool that takes so many bytes of them at the most. */
export function poolBytes(kind: MemoryTarget['kind'], pages: number): number {
  return kind === 'cpu' ? pages : roundUp(pages, PAGE_CHUNK);
}

/** Multiples of 256 up to 2048, then eight sizes per doubling. */
function smallBlock(bytes: number): number {
  if (bytes <= 2048) return roundUp(Math.max(bytes, 1), 256);
  const step = 2 ** (31 - Math.clz32(bytes - 1) - 3);
  return roundUp(bytes, step);
}

function roundUp(bytes: number, unit: number): number {
  return Math.ceil(bytes / unit) * unit;
}

/**
 * What the driver takes of a card for itself, the context and the code of kernels and of cuBLASLt, in bytes by `isa`: measured
 * by `bench:gpu --only memory`, which prints it as "driver".
 */
const DRIVER_BYTES: Readonly<Record<string, number>> = {
  // NVIDIA H200, 2026-11-27.
  sm_90: 1_107_689_472,
};

/** What the driver takes of a target; undefined for a card that was not measured, 0 without one. */
export function driverBytes({ kind, isa = '' }: MemoryTarget): number | undefined {
  return kind === 'cpu' ? 0 : DRIVER_BYTES[isa];
}
