import type { Benchmark } from '../benchmark/types.js';
import type { Answer, Outcome } from '../execute/types.js';
import type { BatchEntry } from './batches.js';
import type { PlanItem } from './plan.js';
import type { FailedRecord, RecordKey, RunRecord } from './records.js';

/** The record of an outcome: its answer scored in the metric of its task, or its failure. */
export function toRecord(
  benchmark: Benchmark,
  { item, prepared }: BatchEntry,
  policy: string,
  outcome: Outcome,
): RunRecord {
  const key = keyOf(item, policy);
  if ('failure' in outcome) return { ...key, failure: outcome.failure };
  const { answer } = outcome;
  const facts = {
    ...prepared.sample.facts,
    ...(prepared.cutFrom !== undefined && { cutFrom: prepared.cutFrom }),
  };
  return {
    ...key,
    references: prepared.sample.kind === 'question' ? prepared.sample.references : [],
    ...(Object.keys(facts).length > 0 && { facts }),
    score: score(benchmark, item.task, prepared.sample, answer),
    ...answer,
  };
}

/** The record of a sample that the task does not have. */
export function absentRecord(item: PlanItem, policy: string): FailedRecord {
  const { id } = item.task;
  const message = `${id} has no sample ${item.sample}: its data has fewer that fit. Use --limit or num_samples.`;
  return { ...keyOf(item, policy), failure: { code: 'ERR_ACCEL_ARGUMENT', message } };
}

function keyOf({ id, task, sample, mode, method }: PlanItem, policy: string): RecordKey {
  return { id, task: task.name, length: task.length ?? null, sample, mode, method, policy };
}

function score(
  benchmark: Benchmark,
  task: BatchEntry['item']['task'],
  sample: BatchEntry['prepared']['sample'],
  answer: Answer,
): number {
  return sample.kind === 'text'
    ? (answer.nll ?? NaN) / sample.target.length
    : benchmark.score(task, answer.prediction, sample);
}
