import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { isAbsolute, join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { needleInfo, needlePath } from '../src/index.js';

const repository = resolve(import.meta.dirname, '../../..');
const shared = process.env['ACCEL_SHARED'] ?? resolve(repository, '../shared');
const goldenReadme = join(shared, 'golden/needle/README.md');

function sha256(file: string): string {
  return createHash('sha256')
    .update(readFileSync(join(needlePath, file)))
    .digest('hex');
}

/** The header of a safetensors file: tensor name to dtype, shape and byte range. */
function safetensorsHeader(
  file: string,
): Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }> {
  const bytes = readFileSync(file);
  const headerLength = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, 8 + headerLength).toString('utf8')) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  delete header['__metadata__'];
  return header;
}

describe('the embedded model', () => {
  it('is an absolute directory in the Hugging Face layout', () => {
    expect(isAbsolute(needlePath)).toBe(true);
    for (const file of ['config.json', 'model.safetensors', 'tokenizer.json']) {
      expect(existsSync(join(needlePath, file)), file).toBe(true);
    }
  });

  it('has the bytes its metadata names', () => {
    for (const [file, expected] of Object.entries(needleInfo.sha256)) {
      expect(sha256(file), file).toBe(expected);
    }
  });

  it.skipIf(!existsSync(goldenReadme))(
    `has the bytes the golden continuations were computed with (needs ${goldenReadme})`,
    () => {
      const readme = readFileSync(goldenReadme, 'utf8');
      const weights = /model\.safetensors sha256 ([0-9a-f]{64})/.exec(readme)?.[1];
      const tokenizer = /tokenizer\.json ([0-9a-f]{64})/.exec(readme)?.[1];
      expect(sha256('model.safetensors')).toBe(weights);
      expect(sha256('tokenizer.json')).toBe(tokenizer);
    },
  );

  it('says of itself what its files say', () => {
    const config = JSON.parse(readFileSync(join(needlePath, 'config.json'), 'utf8')) as Record<
      string,
      unknown
    >;
    expect(config['model_type']).toBe(needleInfo.family);
    expect(config['torch_dtype']).toBe(needleInfo.dtype);
    expect(config['vocab_size']).toBe(needleInfo.vocabularySize);
    expect(config['max_position_embeddings']).toBe(needleInfo.contextLength);

    const tensors = Object.values(safetensorsHeader(join(needlePath, 'model.safetensors')));
    expect(new Set(tensors.map((tensor) => tensor.dtype))).toEqual(new Set(['BF16']));
    const elements = tensors.map((tensor) => tensor.shape.reduce((a, b) => a * b, 1));
    expect(elements.reduce((a, b) => a + b, 0)).toBe(needleInfo.parameters);
  });
});
