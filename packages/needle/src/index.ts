/**
 * The embedded needle-7m model: a directory in the Hugging Face layout and what is known about it.
 *
 * @packageDocumentation
 */
import { fileURLToPath } from 'node:url';

/**
 * Absolute path of the model directory (`config.json`, `model.safetensors`, `tokenizer.json`).
 *
 * Give it to anything that opens a Hugging Face model directory. The folder lies beside `src` and
 * `dist`, so the path is the same from a source checkout and from an installed package.
 */
export const needlePath: string = fileURLToPath(new URL('../model', import.meta.url));

/** What the embedded model is, as data. Sizes in tokens or elements. */
export interface NeedleInfo {
  /** Short name, as reports print it. */
  readonly name: string;
  /** Hugging Face `model_type` of `config.json`. */
  readonly family: 'llama';
  /** Number of weights (embedding and output matrix are one tensor and counted once). */
  readonly parameters: number;
  /** Longest sequence in tokens, prompt and answer together. */
  readonly contextLength: number;
  /** Number of token ids, control tokens included. */
  readonly vocabularySize: number;
  /** Element type of the stored weights. */
  readonly dtype: 'bfloat16';
  /** SPDX identifier of the licence of the weights. */
  readonly license: 'Apache-2.0';
  /** SHA-256, in hexadecimal, of the files that decide the model's output. */
  readonly sha256: {
    readonly 'model.safetensors': string;
    readonly 'tokenizer.json': string;
  };
}

/** Facts about the model in {@link needlePath}; see MODEL_CARD.md for what it can and cannot do. */
export const needleInfo: NeedleInfo = {
  name: 'needle-7m',
  family: 'llama',
  parameters: 6_951_168,
  contextLength: 16_384,
  vocabularySize: 4096,
  dtype: 'bfloat16',
  license: 'Apache-2.0',
  sha256: {
    'model.safetensors': '3d012e3f2836c5e8d470417303aacf57079124c75adde8664b2ed3b0855b6c96',
    'tokenizer.json': '0e7def9e3492b350a73333999a8eddfe0d1c5b48692e6d3fc3fe55019bff6df5',
  },
};
