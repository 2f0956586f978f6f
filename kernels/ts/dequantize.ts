/** The built-in op that reads quantised weights. `ops` has it too. */
import { op } from './builtin-op.js';
import type { Stream } from './stream.js';
import type { Tensor } from './tensor.js';

/** Block formats of GGUF files that {@link dequantize} reads; the names are ggml's. */
export type BlockFormat = 'Q4_0' | 'Q4_1' | 'Q5_0' | 'Q5_1' | 'Q8_0' | 'Q4_K' | 'Q5_K' | 'Q6_K';

/** Sizes of a block format. */
export interface BlockShape {
  /** Number of the format, as in GGUF's tensor types. */
  readonly id: number;
  /** Elements of a block; a row is made of whole blocks. */
  readonly elements: number;
  /** Bytes of a block. */
  readonly bytes: number;
}

/** Every block format by name. What is in a block: src/common/quant_blocks.h. */
export const blockFormats: Readonly<Record<BlockFormat, BlockShape>> = {
  Q4_0: { id: 2, elements: 32, bytes: 18 },
  Q4_1: { id: 3, elements: 32, bytes: 20 },
  Q5_0: { id: 6, elements: 32, bytes: 22 },
  Q5_1: { id: 7, elements: 32, bytes: 24 },
  Q8_0: { id: 8, elements: 32, bytes: 34 },
  Q4_K: { id: 12, elements: 256, bytes: 144 },
  Q5_K: { id: 13, elements: 256, bytes: 176 },
  Q6_K: { id: 14, elements: 256, bytes: 210 },
};

/**
 * Quantised rows as floats. In float32 the numbers are those of ggml's reference to the bit, on every device; 16-bit
 * results are these, rounded to nearest even.
 * @param out `[R, C]`, float32, bfloat16 or float16; C a multiple of the format's elements
 * @param x uint8 `[R, C / elements · bytes]`
 * @throws AccelError `ERR_ACCEL_SHAPE`, `ERR_ACCEL_DTYPE`
 */
export function dequantize(stream: Stream, out: Tensor, x: Tensor, format: BlockFormat): void {
  stream.run(op('dequantize'), out, x, blockFormats[format].id);
}
