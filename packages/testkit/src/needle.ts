import { readFileSync } from 'node:fs';
import { sharedPath } from './shared.js';

/** A line of `golden/needle/prompts.jsonl`. */
export interface NeedlePrompt {
  readonly id: string;
  readonly task: string;
  readonly input_ids: readonly number[];
  readonly references: readonly string[];
}

/** Prompts of `golden/needle` that are of these tasks and at most so many tokens long. Call it inside `describeShared`. */
export function needlePrompts(tasks: RegExp, tokens: number): NeedlePrompt[] {
  return readFileSync(sharedPath('golden/needle/prompts.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as NeedlePrompt)
    .filter(({ task, input_ids: ids }) => tasks.test(task) && ids.length <= tokens);
}
