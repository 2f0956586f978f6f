import { type BlockFormat, blockFormats, type DType } from '@accel/kernels';

/** A tensor type of ggml: how elements are stored. */
export interface TensorType {
  /** ggml's name, for example `Q4_K`. */
  readonly name: string;
  /** Elements of a block; 1 where elements stand alone. Rows are made of whole blocks. */
  readonly elements: number;
  /** Bytes of a block. */
  readonly bytes: number;
  /** The runtime's format for it, where elements stand alone. */
  readonly dtype?: DType;
  /** The block format that the runtime can unpack. Without this and `dtype` the type cannot be used. */
  readonly packed?: BlockFormat;
}

const plain: Readonly<Record<number, readonly [name: string, bytes: number, dtype?: DType]>> = {
  0: ['F32', 4, 'float32'],
  1: ['F16', 2, 'float16'],
  24: ['I8', 1],
  25: ['I16', 2],
  26: ['I32', 4, 'int32'],
  27: ['I64', 8],
  28: ['F64', 8, 'float64'],
  30: ['BF16', 2, 'bfloat16'],
};

/** Formats whose sizes are known, so that a file with them can be described, but not unpacked. */
const foreign: Readonly<Record<number, readonly [name: string, elements: number, bytes: number]>> =
  {
    9: ['Q8_1', 32, 36],
    10: ['Q2_K', 256, 84],
    11: ['Q3_K', 256, 110],
    15: ['Q8_K', 256, 292],
    16: ['IQ2_XXS', 256, 66],
    17: ['IQ2_XS', 256, 74],
    18: ['IQ3_XXS', 256, 98],
    19: ['IQ1_S', 256, 50],
    20: ['IQ4_NL', 32, 18],
    21: ['IQ3_S', 256, 110],
    22: ['IQ2_S', 256, 82],
    23: ['IQ4_XS', 256, 136],
    29: ['IQ1_M', 256, 56],
    34: ['TQ1_0', 256, 54],
    35: ['TQ2_0', 256, 66],
    39: ['MXFP4', 32, 17],
    40: ['NVFP4', 64, 36],
    41: ['Q1_0', 128, 18],
  };

/** ggml's tensor types by number (`ggml_type` in ggml.h; sizes as in gguf-py's `GGML_QUANT_SIZES`). */
export const tensorTypes: ReadonlyMap<number, TensorType> = new Map([
  ...Object.entries(plain).map(([id, [name, bytes, dtype]]): [number, TensorType] => [
    Number(id),
    { name, elements: 1, bytes, ...(dtype && { dtype }) },
  ]),
  ...Object.entries(blockFormats).map(([name, { id, elements, bytes }]): [number, TensorType] => [
    id,
    { name, elements, bytes, packed: name as BlockFormat },
  ]),
  ...Object.entries(foreign).map(([id, [name, elements, bytes]]): [number, TensorType] => [
    Number(id),
    { name, elements, bytes },
  ]),
]);
