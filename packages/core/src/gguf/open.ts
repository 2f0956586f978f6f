import { basename } from 'node:path';
import { AccelError, blockFormats, MappedFile } from '@accel/kernels';
import type { Blueprint } from '../models/family.js';
import type { Tokenizer } from '../tokenizer/tokenizer.js';
import type { TensorInfo } from '../weights/header.js';
import { Weights } from '../weights/weights.js';
import { findArchitecture, readBlueprint } from './architectures.js';
import { openParts } from './parts.js';
import { buildTokenizer } from './tokenizer.js';
import { readVocabulary } from './vocabulary.js';

/** A model in one GGUF file, or in the parts of a split one. */
export interface GgufModel {
  readonly blueprint: Blueprint;
  /** Undefined for a file without a vocabulary: token ids go in and out, but no text. */
  readonly tokenizer: Tokenizer | undefined;
  /** Mapped when they are used; the caller disposes them. */
  readonly weights: Weights;
}

/** Whether a path means a GGUF file rather than a model folder. */
export function isGguf(path: string): boolean {
  return /\.gguf$/i.test(path);
}

/**
 * Reads a GGUF file: what the model is, its tokenizer and where its weights lie. Of a split model any part may be given;
 * all of them must lie beside it.
 * @throws AccelError `ERR_ACCEL_FILE`, `ERR_ACCEL_WEIGHTS` (damaged, or a format that cannot be unpacked),
 *   `ERR_ACCEL_ARCHITECTURE`, `ERR_ACCEL_CONFIG` (names the key), `ERR_ACCEL_TOKENIZER`
 */
export function readGguf(path: string): GgufModel {
  using parts = openParts(path);
  const { file, metadata, tensors } = parts;
  const infos = [...tensors.values()];
  const architecture = findArchitecture(file, metadata);
  refuseForeign(path, infos);
  const vocabulary = readVocabulary(file, metadata);
  const blueprint = readBlueprint(file, architecture, {
    metadata,
    tensors,
    fallbackName: basename(path).replace(/\.gguf$/i, ''),
    ropeFactors: readRopeFactors(tensors.get('rope_freqs.weight')),
    bosTokenId: vocabulary?.special.bos,
    eosTokenIds: vocabulary?.eosTokenIds ?? [],
  });
  return {
    blueprint,
    tokenizer: vocabulary && buildTokenizer(file, metadata, vocabulary),
    weights: new Weights(path, infos),
  };
}

/** Divisors of the rotary frequencies, which belong to the description of the model rather than to its weights. */
function readRopeFactors(info: TensorInfo | undefined): readonly number[] | undefined {
  if (info === undefined) return undefined;
  const { file, dtype, shape, byteOffset, byteLength } = info;
  if (dtype === 'float32' && shape.length === 1) {
    using mapped = MappedFile.open(file);
    const bytes = mapped.bytes(byteOffset, byteLength);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const factors = Array.from({ length: byteLength / 4 }, (_, i) => view.getFloat32(4 * i, true));
    if (factors.every((factor) => factor > 0 && Number.isFinite(factor))) return factors;
  }
  throw new AccelError(
    'ERR_ACCEL_WEIGHTS',
    `${file}: rope_freqs.weight must be a list of F32 numbers above 0. Convert the checkpoint to GGUF again.`,
  );
}

function refuseForeign(path: string, infos: readonly TensorInfo[]): void {
  const foreign = infos.filter(({ dtype, packed }) => dtype === undefined && packed === undefined);
  const [first] = foreign;
  if (first === undefined) return;
  const formats = [...new Set(foreign.map(({ storedAs }) => storedAs))].join(', ');
  throw new AccelError(
    'ERR_ACCEL_WEIGHTS',
    `${path} has ${foreign.length} tensors in ${formats} (${first.name}), which cannot be unpacked. ` +
      `Supported are F32, F16, BF16, ${Object.keys(blockFormats).join(', ')}: take such a file of the model, for example Q4_K_M or Q8_0, or make one with llama-quantize from the unquantised model.`,
  );
}
