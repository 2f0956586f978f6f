import type { ModelDescription } from '@accel/core';
import type { MemoryGrid, PolicyMemory } from './memory.js';

/** What `accel inspect --json` prints; bytes are whole numbers. */
export function toJson(
  { blueprint, parameters, files, tokenizer }: ModelDescription,
  { card, dtype }: MemoryGrid,
  results: readonly PolicyMemory[],
): unknown {
  const { layers, kvHeads, headDim } = blueprint.spec;
  const row = 2 * layers * kvHeads * headDim;
  return {
    spec: blueprint.spec,
    parameters,
    weightBytes: { float32: 4 * parameters, bfloat16: 2 * parameters, float16: 2 * parameters },
    kvBytesPerToken: { float32: 4 * row, bfloat16: 2 * row, float16: 2 * row },
    files: { ...files, formats: Object.fromEntries(files.formats) },
    tokenizer: tokenizer ?? null,
    memory: { card: { name: card.name, bytes: card.bytes }, dtype, policies: results },
  };
}
