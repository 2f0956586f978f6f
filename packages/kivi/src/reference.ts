import { fromFloat16, toFloat16 } from '@accel/kernels';
import type { Bits, KiviSettings } from './settings.js';

/** KIVI in plain TypeScript: what the kernels are tested with. */

/** A group of numbers as codes: each is about `scale · code + low`. */
export interface ReferenceGroup {
  readonly codes: readonly number[];
  /** Both are halves. */
  readonly scale: number;
  readonly low: number;
}

/** The nearest half, ties to even. */
export function asHalf(x: number): number {
  return fromFloat16(toFloat16(Float32Array.of(x)))[0] ?? 0;
}

/** Packs a group, in half precision throughout. @throws RangeError when half precision does not hold it */
export function referenceGroup(numbers: readonly number[], bits: Bits): ReferenceGroup {
  const halves = numbers.map(asHalf);
  // Both zeros are one.
  const low = Math.min(...halves) + 0;
  const high = Math.max(...halves);
  if (!halves.every(Number.isFinite)) throw new RangeError('a number that no half is near to');
  if (high - low > 65504) throw new RangeError('a span that no half scale covers');
  const most = 2 ** bits - 1;
  const scale = asHalf(asHalf(high - low + 0) / most);
  const codes = halves.map((x) =>
    scale === 0 ? 0 : roundEven(Math.min(asHalf(asHalf(x - low) / scale), most)),
  );
  return { codes, scale, low };
}

/** The numbers that a group stands for, in float32. */
export function referenceValues({ codes, scale, low }: ReferenceGroup): number[] {
  return codes.map((code) => Math.fround(scale * code + low));
}

/** Codes in 32-bit words, lowest bits first. */
export function referenceWords(codes: readonly number[], bits: Bits): number[] {
  const words = new Array<number>((codes.length * bits) / 32).fill(0);
  for (const [i, code] of codes.entries()) {
    const word = Math.floor((i * bits) / 32);
    words[word] = ((words[word] ?? 0) | (code << ((i * bits) % 32))) >>> 0;
  }
  return words;
}

/** How many of n rows are packed, the oldest ones. */
export function referenceSchedule(
  rows: number,
  { residual, guarded }: Pick<KiviSettings, 'residual' | 'guarded'>,
): { readonly keys: number; readonly values: number } {
  const plain = guarded ? 1 : 0;
  return {
    keys: Math.floor(Math.max(0, rows - plain) / residual) * residual,
    values: Math.max(0, rows - residual),
  };
}

function roundEven(x: number): number {
  const down = Math.floor(x);
  const rest = x - down;
  return rest > 0.5 || (rest === 0.5 && down % 2 === 1) ? down + 1 : down;
}
