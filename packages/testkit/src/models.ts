import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readSafetensors, type HostTensor } from './safetensors.js';
import { sharedPath } from './shared.js';

/** Checkpoints of `golden/models` that `@accel/core` can run, with what each is there for. */
export const tinyLlamas = {
  'llama-llama3rope': 'grouped queries, llama3 rope',
  'llama-tied': 'tied embeddings, one kv head a query head',
  'llama-linear': 'one kv head, linear rope scaling',
  'llama-dynamic': 'dynamic NTK rope',
} as const;

/** Name of one of {@link tinyLlamas}. */
export type TinyLlama = keyof typeof tinyLlamas;

/** A prompt of a tiny checkpoint and what the reference computed from it. */
export interface TinyPrompt {
  readonly inputIds: readonly number[];
  /** 8 tokens fed one by one after the prompt. */
  readonly decodeIds: readonly number[];
  /** 16 greedy tokens, end-of-text ignored. */
  readonly greedyIds: readonly number[];
  /** `[4, vocab]`: logits at the last four positions of the prompt. */
  readonly prefillLogits: HostTensor;
  /** `[8, vocab]`: logits after each of `decodeIds`. */
  readonly decodeLogits: HostTensor;
}

/** Largest absolute difference allowed on logits in float32 (golden/models/README.md). */
export const LOGITS_TOLERANCE = { abs: 5e-4, rel: 0 };

/** Folder of a tiny checkpoint. */
export function tinyPath(name: TinyLlama): string {
  return sharedPath(`golden/models/${name}`);
}

/** A reference prompt: `p0` has 37 tokens, `p1` has 150. */
export function tinyPrompt(name: TinyLlama, prompt: 'p0' | 'p1'): TinyPrompt {
  const folder = tinyPath(name);
  const meta = JSON.parse(readFileSync(join(folder, 'meta.json'), 'utf8')) as {
    prompts: Record<
      'p0' | 'p1',
      { input_ids: number[]; decode_ids: number[]; greedy_ids: number[] }
    >;
  };
  const expected = readSafetensors(join(folder, 'expected.safetensors'));
  const {
    input_ids: inputIds,
    decode_ids: decodeIds,
    greedy_ids: greedyIds,
  } = meta.prompts[prompt];
  return {
    inputIds,
    decodeIds,
    greedyIds,
    prefillLogits: expected.get(`${prompt}.prefill_logits`) as HostTensor,
    decodeLogits: expected.get(`${prompt}.decode_logits`) as HostTensor,
  };
}
