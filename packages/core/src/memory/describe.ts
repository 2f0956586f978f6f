import { readCheckpoint } from '../checkpoint.js';
import { endOfTurnIds } from '../chat/stop-ids.js';
import { checkWeights } from '../models/bind.js';
import type { Blueprint } from '../models/family.js';
import type { Tokenizer } from '../tokenizer/tokenizer.js';
import type { TensorInfo } from '../weights/header.js';
import { countParameters, weightOutlines } from './weights.js';

/** What a checkpoint is, as its headers tell. */
export interface ModelDescription {
  readonly blueprint: Blueprint;
  readonly parameters: number;
  readonly tokenizer: TokenizerDescription | undefined;
  readonly files: FilesDescription;
  /** How the checkpoint holds a tensor that the model uses; undefined for another name. */
  readonly stored: (tensor: string) => TensorInfo | undefined;
}

/** The weight files of a checkpoint. */
export interface FilesDescription {
  readonly format: 'safetensors' | 'gguf';
  /** How many hold weights. */
  readonly count: number;
  /** Of all tensors. */
  readonly bytes: number;
  /** Bytes in each format, the largest share first. */
  readonly formats: ReadonlyMap<string, number>;
}

/** What a checkpoint says about text. */
export interface TokenizerDescription {
  readonly vocabSize: number;
  readonly hasChatTemplate: boolean;
  /** Tokens that end an answer: those of the configuration, then the one with which the template ends a message. */
  readonly stops: readonly { readonly id: number; readonly text: string }[];
}

/**
 * Reads what a checkpoint is: configuration, tokenizer and the headers of its weight files. No weight is read, so the size of the
 * model does not matter.
 * @param path a Hugging Face model folder or a GGUF file
 * @throws AccelError what `loadModel` throws for such a path: `ERR_ACCEL_FILE`, `ERR_ACCEL_CONFIG`, `ERR_ACCEL_ARCHITECTURE`,
 *   `ERR_ACCEL_WEIGHTS`, `ERR_ACCEL_TOKENIZER`
 * @example
 * const { blueprint, parameters } = await describeModel('models/Llama-3.1-8B-Instruct');
 */
export async function describeModel(path: string): Promise<ModelDescription> {
  const checkpoint = await readCheckpoint(path);
  const { blueprint, tokenizer } = checkpoint;
  using source = checkpoint.openWeights();
  checkWeights(source, blueprint);
  const names = new Set(weightOutlines(blueprint).map(({ source: name }) => name));
  const infos = new Map([...names].map((name) => [name, source.info(name)]));
  return {
    blueprint,
    parameters: countParameters(blueprint),
    tokenizer: tokenizer && describeTokenizer(tokenizer, blueprint),
    files: describeFiles([...infos.values()]),
    stored: (tensor) => infos.get(tensor),
  };
}

function describeFiles(infos: readonly TensorInfo[]): FilesDescription {
  const formats = new Map<string, number>();
  for (const { storedAs, byteLength } of infos) {
    formats.set(storedAs, (formats.get(storedAs) ?? 0) + byteLength);
  }
  return {
    format: infos.some(({ file }) => file.endsWith('.gguf')) ? 'gguf' : 'safetensors',
    count: new Set(infos.map(({ file }) => file)).size,
    bytes: infos.reduce((sum, { byteLength }) => sum + byteLength, 0),
    formats: new Map([...formats].sort(([, a], [, b]) => b - a)),
  };
}

function describeTokenizer(tokenizer: Tokenizer, { spec }: Blueprint): TokenizerDescription {
  const { vocabSize, hasChatTemplate } = tokenizer;
  const ends = hasChatTemplate ? endOfTurnIds(tokenizer, {}) : [];
  const ids = [...new Set([...spec.eosTokenIds, ...ends])];
  return {
    vocabSize,
    hasChatTemplate,
    stops: ids.map((id) => ({ id, text: tokenizer.decode([id]) })),
  };
}
