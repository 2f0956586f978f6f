import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadTokenizer, type Tokenizer } from '../../src/tokenizer/tokenizer.js';
import { shared } from '../shared.js';
import { folder } from '../weights/build.js';

/** What the Rust tokenizers library gives for each of the golden strings. */
export interface TokenizerGolden {
  prefix_ids: number[];
  cases: { ids: number[]; decoded?: string; decoded_skip_special?: string }[];
}

export const goldenNames = [
  'needle-7m',
  'bytelevel-llama3',
  'bytelevel-qwen2',
  'bytelevel-glm4',
  'spm-legacy',
  'spm-metaspace',
] as const;

export function goldenStrings(): string[] {
  return readJson('strings.json') as string[];
}

export function goldenOf(name: string): TokenizerGolden {
  return readJson(`${name}.json`) as TokenizerGolden;
}

/** The tokenizer of a golden, loaded from a folder as a model's is. */
export async function goldenTokenizer(
  name: string,
  files: Record<string, string> = {},
): Promise<Tokenizer> {
  const path =
    name === 'needle-7m'
      ? 'models/needle-7m/tokenizer.json'
      : `golden/tokenizers/small/${name}.tokenizer.json`;
  using dir = folder({ 'tokenizer.json': readFileSync(join(shared, path)), ...files });
  return await loadTokenizer(dir.path);
}

function readJson(name: string): unknown {
  return JSON.parse(readFileSync(join(shared, 'golden/tokenizers', name), 'utf8'));
}
