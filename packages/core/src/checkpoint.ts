import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { AccelError } from '@accel/kernels';
import { readModelConfig } from './config/model-config.js';
import { isGguf, readGguf } from './gguf/open.js';
import type { Blueprint } from './models/family.js';
import { loadTokenizer, type Tokenizer } from './tokenizer/tokenizer.js';
import type { WeightSource } from './weights/source.js';
import { openWeights } from './weights/weights.js';

/** A model on disk, whatever the format: what it is, its tokenizer and its weights. */
export interface Checkpoint {
  readonly blueprint: Blueprint;
  /** Undefined where the checkpoint has none: token ids go in and out, but no text. */
  readonly tokenizer: Tokenizer | undefined;
  /** The checked headers of the weight files; the caller disposes the source. */
  readonly openWeights: () => WeightSource;
}

/**
 * Reads a Hugging Face model folder or a GGUF file.
 * @throws AccelError `ERR_ACCEL_FILE`, `ERR_ACCEL_CONFIG`, `ERR_ACCEL_ARCHITECTURE`, `ERR_ACCEL_TOKENIZER`,
 *   `ERR_ACCEL_WEIGHTS` (GGUF)
 */
export async function readCheckpoint(path: string): Promise<Checkpoint> {
  if (isGguf(path)) {
    const { blueprint, tokenizer, weights } = readGguf(path);
    return { blueprint, tokenizer, openWeights: () => weights };
  }
  await adviseGguf(path);
  const blueprint = await readModelConfig(path);
  const tokenizer = existsSync(join(path, 'tokenizer.json'))
    ? await loadTokenizer(path)
    : undefined;
  return { blueprint, tokenizer, openWeights: () => openWeights(path) };
}

/** A folder of GGUF files alone is no model folder: which of them is meant has to be said. */
async function adviseGguf(path: string): Promise<void> {
  if (existsSync(join(path, 'config.json'))) return;
  const names = await readdir(path).catch(() => []);
  const files = names.filter(isGguf);
  if (files.length === 0) return;
  throw new AccelError(
    'ERR_ACCEL_FILE',
    `${path} has no config.json, but GGUF files (${files.slice(0, 5).join(', ')}). Give the path of one of them, ${join(path, files[0] ?? '')} for example.`,
  );
}
