import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { attempt } from './attempt.js';
import { damaged } from './header.js';
import { findDuplicateKey } from './json-keys.js';

const schema = z.looseObject({ weight_map: z.record(z.string(), z.string()) });

/**
 * Reads `model.safetensors.index.json`.
 * @returns shard file names, each with the tensors it must hold
 */
export function readShardIndex(file: string): Map<string, string[]> {
  const text = attempt(file, () => readFileSync(file, 'utf8'));
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw damaged(file, `is not JSON (${(error as Error).message})`, error);
  }
  const result = schema.safeParse(value);
  if (!result.success)
    throw damaged(file, 'has no weight_map from tensor names to shard names', result.error);
  const twice = findDuplicateKey(text);
  if (twice !== undefined) throw damaged(file, `names ${JSON.stringify(twice)} twice`);
  const shards = new Map<string, string[]>();
  for (const [tensor, shard] of Object.entries(result.data.weight_map)) {
    // A shard lies beside its index. Anything else could make us read files the user did not mean.
    if (!/^[A-Za-z0-9][\w.-]*\.safetensors$/.test(shard)) {
      throw damaged(
        file,
        `places tensor ${tensor} in ${JSON.stringify(shard)}, which is not a plain *.safetensors file name`,
      );
    }
    const names = shards.get(shard);
    if (names === undefined) shards.set(shard, [tensor]);
    else names.push(tensor);
  }
  if (shards.size === 0) throw damaged(file, 'lists no tensors');
  return shards;
}
