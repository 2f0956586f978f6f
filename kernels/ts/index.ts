/**
 * Native runtime of the Acceleration Toolkit: devices, streams, tensors, paged KV caches, ops and op libraries.
 *
 * @packageDocumentation
 */
export { blockFormats, type BlockFormat, type BlockShape } from './dequantize.js';
export { Device, devices, type DeviceInfo, type DeviceMemory } from './device.js';
export { dtypeBytes, type DType, type TypedArray } from './dtype.js';
export { AccelError, type AccelErrorCode } from './errors.js';
export { fromBfloat16, fromFloat16, toBfloat16, toFloat16 } from './half.js';
export type { KvArg } from './kv-arg.js';
export { kvLayerBytes, type KvLayerRows } from './kv-layer.js';
export {
  encodeBatch,
  kvBatch,
  KvSequence,
  type KvBytes,
  type KvEncodeDue,
  type KvEncodeRule,
  type KvEncodeRules,
  type KvItems,
  type KvShape,
} from './kv-sequence.js';
export { MappedFile } from './mapped-file.js';
export { builtinOps, loadOpLibrary, type Op, type OpLibrary } from './op-library.js';
export * as ops from './ops.js';
export type { HeadReduce } from './tally-ops.js';
export { PagePool, type PagePoolOptions } from './page-pool.js';
export type { Resource } from './resource.js';
export { Stream, type GraphCounts, type OpArg } from './stream.js';
export { Tensor } from './tensor.js';
