import { fileURLToPath } from 'node:url';
import type { EncodeCall, EncodedAttendCall } from '@accel/core';
import {
  loadOpLibrary,
  type KvArg,
  type Op,
  type OpArg,
  type OpLibrary,
  type Stream,
  type Tensor,
} from '@accel/kernels';
import type { KiviLayout } from './layout.js';

/** The op library of this package; the same path from `src` and from `dist`. */
export const LIBRARY: string = fileURLToPath(
  new URL('../build/Release/accel_kivi.so', import.meta.url),
);
let library: OpLibrary | undefined;
const ops = new Map<string, Op>();

function op(name: string): Op {
  let found = ops.get(name);
  if (found === undefined) {
    library ??= loadOpLibrary(LIBRARY);
    ops.set(name, (found = library.op(name)));
  }
  return found;
}

function numbers({ keyBits, valueBits, group, channels }: KiviLayout): readonly OpArg[] {
  return [keyBits, valueBits, group, channels];
}

/**
 * Packs the rows that `kv` has in both forms: the op of `kernels/kivi_encode.cc`. Enqueues and returns. A number that half
 * precision does not hold fails the stream with `ERR_ACCEL_NAN`, a group more than 65504 wide with `ERR_ACCEL_ARGUMENT`.
 */
export function kiviEncode({ stream, kv, keys, values }: EncodeCall, layout: KiviLayout): void {
  stream.run(op('kivi_encode'), kv, ...numbers(layout), keys, values);
}

/** Causal attention over packed and plain rows: the op of `kernels/kivi_attention.cc`. Enqueues and returns. */
export function kiviAttention(
  { stream, out, lse, q, kv, lens, scale, window }: EncodedAttendCall,
  layout: KiviLayout,
): void {
  stream.run(op('kivi_attention'), out, lse, q, kv, lens, scale, window, ...numbers(layout));
}

/** Where {@link kiviRead} writes; what is missing is not written. */
export interface PackedRows {
  /** int32 `[kvHeads, channels, keys · bits / 32]`, words along rows, lowest bits first. */
  readonly keyCodes?: Tensor;
  /** float16 `[kvHeads, channels, keys / group]` */
  readonly keyScales?: Tensor;
  /** float16, the same shape */
  readonly keyMinima?: Tensor;
  /** int32 `[kvHeads, values, headDim · bits / 32]`, words along channels. */
  readonly valueCodes?: Tensor;
  /** float16 `[kvHeads, values, headDim / group]` */
  readonly valueScales?: Tensor;
  /** float16, the same shape */
  readonly valueMinima?: Tensor;
}

/**
 * Reads packed rows the way the paper's authors store them: the op of `kernels/kivi_read.cc`. For tests and inspection.
 * @param kv one sequence whose heads have equally many packed rows
 */
export function kiviRead(stream: Stream, out: PackedRows, kv: KvArg, layout: KiviLayout): void {
  const { keyCodes, keyScales, keyMinima, valueCodes, valueScales, valueMinima } = out;
  const outputs = [keyCodes, keyScales, keyMinima, valueCodes, valueScales, valueMinima];
  stream.run(op('kivi_read'), ...outputs.map((tensor) => tensor ?? null), kv, ...numbers(layout));
}
