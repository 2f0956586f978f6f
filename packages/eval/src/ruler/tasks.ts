import { AccelError } from '@accel/core';
import type { NiahSpec, RulerTask } from './types.js';

const NIAH_TOKENS = 128;

function niah(name: string, spec: Omit<NiahSpec, 'family'>): RulerTask<NiahSpec> {
  return {
    name,
    spec: { family: 'niah', ...spec },
    maxNewTokens: NIAH_TOKENS,
    metric: 'string_match_all',
  };
}

const words = { keyType: 'words', valueType: 'numbers' } as const;
const one = { keys: 1, valuesPerKey: 1, queries: 1 } as const;
const all = { metric: 'string_match_all' } as const;
const part = { metric: 'string_match_part', maxNewTokens: 32 } as const;

/** RULER's tasks with their official arguments, in the official order. */
export const RULER_TASKS: readonly RulerTask[] = [
  niah('niah_single_1', { haystack: 'noise', ...words, ...one }),
  niah('niah_single_2', { haystack: 'essay', ...words, ...one }),
  niah('niah_single_3', { haystack: 'essay', keyType: 'words', valueType: 'uuids', ...one }),
  niah('niah_multikey_1', { haystack: 'essay', ...words, ...one, keys: 4 }),
  niah('niah_multikey_2', { haystack: 'needle', ...words, ...one }),
  niah('niah_multikey_3', { haystack: 'needle', keyType: 'uuids', valueType: 'uuids', ...one }),
  niah('niah_multivalue', { haystack: 'essay', ...words, ...one, valuesPerKey: 4 }),
  niah('niah_multiquery', { haystack: 'essay', ...words, ...one, queries: 4 }),
  {
    name: 'vt',
    spec: { family: 'variable_tracking', chains: 1, hops: 4 },
    maxNewTokens: 30,
    ...all,
  },
  {
    name: 'cwe',
    spec: { family: 'common_words', common: 10, often: 30, seldom: 3 },
    maxNewTokens: 120,
    ...all,
  },
  { name: 'fwe', spec: { family: 'frequent_words' }, maxNewTokens: 50, ...all },
  { name: 'qa_1', spec: { family: 'qa', data: 'squad' }, ...part },
  { name: 'qa_2', spec: { family: 'qa', data: 'hotpotqa' }, ...part },
];

/** Limits on new tokens: RULER's, or those of the seed toolkit, which gives `vt` 80. */
export type TokenPreset = 'ruler' | 'loom';

/** The task's limit on new tokens under a preset. */
export function maxNewTokens(task: RulerTask, preset: TokenPreset): number {
  return preset === 'loom' && task.spec.family === 'variable_tracking' ? 80 : task.maxNewTokens;
}

/** @throws AccelError ERR_ACCEL_CONFIG for a name that is not a task */
export function rulerTask(name: string): RulerTask {
  const task = RULER_TASKS.find((candidate) => candidate.name === name);
  if (task !== undefined) return task;
  const known = RULER_TASKS.map((candidate) => candidate.name).join(', ');
  throw new AccelError('ERR_ACCEL_CONFIG', `There is no RULER task ${name}. Available: ${known}.`);
}
