import { AccelError } from './errors.js';
import { toBfloat16, toFloat16 } from './half.js';

/** Element type of a tensor. */
export type DType = 'float32' | 'bfloat16' | 'float16' | 'float64' | 'int32' | 'uint8';

/** What a tensor can be made of. A `Uint16Array` holds the bits of bfloat16 or float16 numbers. */
export type TypedArray = Float32Array | Float64Array | Int32Array | Uint8Array | Uint16Array;

/** In the order of the addon's numbers (src/common/dtype.h). */
const DTYPES: readonly DType[] = ['float32', 'bfloat16', 'float16', 'float64', 'int32', 'uint8'];

const BYTES: Readonly<Record<DType, number>> = {
  float32: 4,
  bfloat16: 2,
  float16: 2,
  float64: 8,
  int32: 4,
  uint8: 1,
};

/** Bytes of one element. */
export function dtypeBytes(dtype: DType): number {
  return BYTES[dtype];
}

/** @internal The addon's number of a dtype. */
export function dtypeIndex(dtype: DType): number {
  const index = DTYPES.indexOf(dtype);
  if (index >= 0) return index;
  throw new AccelError(
    'ERR_ACCEL_DTYPE',
    `There is no dtype "${dtype as string}"; use one of ${DTYPES.join(', ')}.`,
  );
}

/** @internal The dtype of an array when none is named. */
export function naturalDType(data: TypedArray): DType {
  if (data instanceof Float32Array) return 'float32';
  if (data instanceof Float64Array) return 'float64';
  if (data instanceof Int32Array) return 'int32';
  if (data instanceof Uint8Array) return 'uint8';
  throw new AccelError(
    'ERR_ACCEL_DTYPE',
    'A Uint16Array holds 16-bit floats: say whether its dtype is bfloat16 or float16.',
  );
}

/** @internal `data` as the elements of a tensor of `dtype`; only float32 is converted, to 16-bit floats. */
export function encode(data: TypedArray, dtype: DType): TypedArray {
  if (dtype === 'bfloat16' || dtype === 'float16') {
    if (data instanceof Uint16Array) return data;
    if (data instanceof Float32Array) {
      return dtype === 'bfloat16' ? toBfloat16(data) : toFloat16(data);
    }
  } else if (!(data instanceof Uint16Array) && naturalDType(data) === dtype) {
    return data;
  }
  throw new AccelError(
    'ERR_ACCEL_DTYPE',
    `A ${data.constructor.name} cannot fill a ${dtype} tensor; convert the numbers first.`,
  );
}
