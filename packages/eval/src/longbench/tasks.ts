import { suggest } from '@accel/core';
import { argumentError } from '../errors.js';

/** How answers are scored: the metrics of LongBench's `metrics.py`. */
export type LongBenchMetric =
  | 'qa_f1'
  | 'qa_f1_zh'
  | 'rouge_l'
  | 'rouge_l_zh'
  | 'classification'
  | 'retrieval'
  | 'retrieval_zh'
  | 'count'
  | 'code_sim';

/** The groups of LongBench's report. */
export type LongBenchCategory =
  | 'single-document QA'
  | 'multi-document QA'
  | 'summarization'
  | 'few-shot learning'
  | 'synthetic'
  | 'code';

/** A task of LongBench v1. */
export interface LongBenchTask {
  readonly name: string;
  readonly category: LongBenchCategory;
  readonly language: 'en' | 'zh' | 'code';
  readonly metric: LongBenchMetric;
  /** As in LongBench's `dataset2maxlen.json`. */
  readonly maxNewTokens: number;
  /** What the prompts say before the text already asks everything, so that no mode can hide the question from a method. */
  readonly askedFirst?: true;
  /** Whether LongBench-E has it too, as `<name>_e`. */
  readonly e?: true;
}

/** LongBench's 21 tasks, in the order of its configuration. */
export const LONGBENCH_TASKS: readonly LongBenchTask[] = [
  row('narrativeqa', 'single-document QA', 'en', 'qa_f1', 128),
  row('qasper', 'single-document QA', 'en', 'qa_f1', 128, { e: true }),
  row('multifieldqa_en', 'single-document QA', 'en', 'qa_f1', 64, { e: true }),
  row('multifieldqa_zh', 'single-document QA', 'zh', 'qa_f1_zh', 64),
  row('hotpotqa', 'multi-document QA', 'en', 'qa_f1', 32, { e: true }),
  row('2wikimqa', 'multi-document QA', 'en', 'qa_f1', 32, { e: true }),
  row('musique', 'multi-document QA', 'en', 'qa_f1', 32),
  row('dureader', 'multi-document QA', 'zh', 'rouge_l_zh', 128),
  row('gov_report', 'summarization', 'en', 'rouge_l', 512, { askedFirst: true, e: true }),
  row('qmsum', 'summarization', 'en', 'rouge_l', 512),
  row('multi_news', 'summarization', 'en', 'rouge_l', 512, { askedFirst: true, e: true }),
  row('vcsum', 'summarization', 'zh', 'rouge_l_zh', 512, { askedFirst: true }),
  row('trec', 'few-shot learning', 'en', 'classification', 64, { e: true }),
  row('triviaqa', 'few-shot learning', 'en', 'qa_f1', 32, { e: true }),
  row('samsum', 'few-shot learning', 'en', 'rouge_l', 128, { e: true }),
  row('lsht', 'few-shot learning', 'zh', 'classification', 64),
  row('passage_count', 'synthetic', 'en', 'count', 32, { askedFirst: true, e: true }),
  row('passage_retrieval_en', 'synthetic', 'en', 'retrieval', 32, { e: true }),
  row('passage_retrieval_zh', 'synthetic', 'zh', 'retrieval_zh', 32),
  row('lcc', 'code', 'code', 'code_sim', 64, { askedFirst: true, e: true }),
  row('repobench-p', 'code', 'code', 'code_sim', 64, { e: true }),
];

/** LongBench-E's 13 tasks: the same prompts and metrics over samples of evenly spread lengths. */
export const LONGBENCH_E_TASKS: readonly LongBenchTask[] = LONGBENCH_TASKS.filter(
  ({ e }) => e === true,
).map((task) => ({ ...task, name: `${task.name}_e` }));

/** Tasks that LongBench prompts without a chat template, since their prompts are texts to go on with. */
export const LONGBENCH_RAW_TASKS: readonly string[] = [
  'trec',
  'triviaqa',
  'samsum',
  'lsht',
  'lcc',
  'repobench-p',
];

/** Names of the tasks in each of LongBench's six groups. A task of LongBench-E belongs to the group of its namesake. */
export const LONGBENCH_CATEGORIES: ReadonlyMap<LongBenchCategory, readonly string[]> = groups();

/** LongBench-E's bins of text length. */
export type LengthBin = '0-4k' | '4-8k' | '8k+';

/** LongBench-E's bins of text length, in the order of its report. */
export const LENGTH_BINS: readonly LengthBin[] = ['0-4k', '4-8k', '8k+'];

/**
 * LongBench-E's bin of a sample.
 *
 * @param words the record's `length`: words, or characters of a Chinese text
 */
export function lengthBin(words: number): LengthBin {
  if (words < 4000) return '0-4k';
  return words < 8000 ? '4-8k' : '8k+';
}

/** Name of the LongBench task that has a task's prompts: its own, or without `_e`. */
export function baseName(task: string): string {
  return task.endsWith('_e') ? task.slice(0, -2) : task;
}

/**
 * A task of LongBench or LongBench-E by name.
 *
 * @throws AccelError ERR_ACCEL_ARGUMENT
 */
export function longBenchTask(name: string): LongBenchTask {
  const all = [...LONGBENCH_TASKS, ...LONGBENCH_E_TASKS];
  const found = all.find((task) => task.name === name);
  if (found !== undefined) return found;
  const names = all.map((task) => task.name);
  throw argumentError(
    `LongBench has no task "${name}".${suggest(name, names)} Its tasks are ${names.join(', ')}.`,
  );
}

function row(
  name: string,
  category: LongBenchCategory,
  language: LongBenchTask['language'],
  metric: LongBenchMetric,
  maxNewTokens: number,
  more?: Pick<LongBenchTask, 'askedFirst' | 'e'>,
): LongBenchTask {
  return { name, category, language, metric, maxNewTokens, ...more };
}

function groups(): Map<LongBenchCategory, string[]> {
  const byCategory = new Map<LongBenchCategory, string[]>();
  for (const { name, category } of LONGBENCH_TASKS) {
    byCategory.set(category, [...(byCategory.get(category) ?? []), name]);
  }
  return byCategory;
}
