import { classification } from '../metrics/classification.js';
import { codeSimilarity } from '../metrics/code-similarity.js';
import { qaF1, qaF1Zh } from '../metrics/f1.js';
import { count, retrieval, retrievalZh } from '../metrics/numbers.js';
import { rougeL, rougeLZh } from '../metrics/rouge.js';
import type { Segment } from '../metrics/segmenter.js';
import { baseName, type LongBenchMetric, type LongBenchTask } from './tasks.js';

/** What scoring needs besides the texts. */
export interface ScoreMeans {
  /** All class names of a classification task. */
  readonly classes: readonly string[];
  /** Splits Chinese texts into words. */
  readonly segment: Segment;
}

/** Tasks of whose answers only the first line counts: their examples teach a model to go on with another one. */
const FIRST_LINE_TASKS: readonly string[] = ['trec', 'triviaqa', 'samsum', 'lsht'];

const METRICS: Readonly<
  Record<LongBenchMetric, (prediction: string, reference: string, means: ScoreMeans) => number>
> = {
  qa_f1: qaF1,
  qa_f1_zh: (prediction, reference, { segment }) => qaF1Zh(prediction, reference, segment),
  rouge_l: rougeL,
  rouge_l_zh: (prediction, reference, { segment }) => rougeLZh(prediction, reference, segment),
  classification: (prediction, reference, { classes }) =>
    classification(prediction, reference, classes),
  retrieval,
  retrieval_zh: retrievalZh,
  count,
  code_sim: codeSimilarity,
};

/** Whether a task's metric needs a segmenter. */
export function needsSegmenter({ metric }: LongBenchTask): boolean {
  return metric === 'qa_f1_zh' || metric === 'rouge_l_zh';
}

/**
 * LongBench's score of an answer: the best over the reference answers.
 *
 * @returns 0 to 100
 */
export function scoreLongBench(
  task: LongBenchTask,
  prediction: string,
  references: readonly string[],
  means: ScoreMeans,
): number {
  const answer = FIRST_LINE_TASKS.includes(baseName(task.name))
    ? (prediction.replace(/^\n+/, '').split('\n', 1)[0] as string)
    : prediction;
  const metric = METRICS[task.metric];
  return 100 * Math.max(0, ...references.map((reference) => metric(answer, reference, means)));
}
