/**
 * What the tests of every package share: golden vectors, tiny models, and the suite that every method must pass.
 *
 * @packageDocumentation
 */
export { expectSideBySide } from './batch.js';
export type { SideBySide } from './batch.js';
export { readFloats, TestCache } from './cache.js';
export type { TestCacheOptions } from './cache.js';
export { writeTinyCheckpoint } from './checkpoint.js';
export type { TinyCheckpoint, TinyCheckpointOptions } from './checkpoint.js';
export { draw } from './conformance/helpers.js';
export { conformance } from './conformance/suite.js';
export type { BadOptions, ConformanceOptions, Step } from './conformance/types.js';
export { describeDevices, testDevices } from './devices.js';
export { errorWith } from './errors.js';
export { tinyFamilies } from './families.js';
export type { TinyFamily } from './families.js';
export { FakeHub } from './fake-hub.js';
export type { FakeAccess, FakeFault, FakeFile, FakeRequest } from './fake-hub.js';
export { byteTokens, generated, tokenMajor } from './generator.js';
export { describeGolden, describeShared, goldenCases, goldenConfigErrors } from './golden.js';
export type { GoldenCase, GoldenConfigError, StructuredInputs } from './golden.js';
export { LOGITS_TOLERANCE, tinyLlamas, tinyPath, tinyPrompt } from './models.js';
export type { TinyLlama, TinyPrompt } from './models.js';
export { expectMoves } from './moves.js';
export { needlePrompts } from './needle.js';
export type { NeedlePrompt } from './needle.js';
export { missingRedis, RedisServer } from './redis-server.js';
export { encodeSafetensors, readSafetensors } from './safetensors.js';
export type { HostData, HostDType, HostTensor, HostTensors } from './safetensors.js';
export { missing, sharedPath } from './shared.js';
export {
  knownInputs,
  knownStream,
  maskHash,
  queryRows,
  sparseCache,
  structuredInputs,
  unpackMask,
} from './sparse.js';
export type { SparseCacheOptions, SparseInputs } from './sparse.js';
export { streamTests } from './streams.js';
export type { StreamOptions } from './streams.js';
export { expectClose, maxDifference, OUTPUTS, SCORES } from './tolerance.js';
export type { Tolerance } from './tolerance.js';
export { layerEnd, partSetup } from './hooks.js';
