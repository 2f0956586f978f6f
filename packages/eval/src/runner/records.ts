import type { Answer, Failure } from '../execute/types.js';
import type { Mode } from '../prompt/modes.js';
import type { SampleFacts } from '../benchmark/types.js';

/** What a record is about, whatever came of it. */
export interface RecordKey {
  /** `<task id>/<sample>/<mode>/<method>`, unique in a run. */
  readonly id: string;
  /** Task without its length. */
  readonly task: string;
  /** The task's length; null where samples have lengths of their own. */
  readonly length: number | null;
  readonly sample: number;
  readonly mode: Mode;
  readonly method: string;
  /** Digest of the method's parts and options. */
  readonly policy: string;
}

/** One sample under one method: a line of `records.jsonl`. */
export interface EvalRecord extends RecordKey, Answer {
  readonly references: readonly string[];
  readonly facts?: SampleFacts | undefined;
  /** In the task's metric: 0 to 100, or nats a token for NLL. */
  readonly score: number;
}

/** A record that has no answer: a line of `records.jsonl` too. Tried again when the run is continued. */
export interface FailedRecord extends RecordKey {
  readonly failure: Failure;
}

/** A line of `records.jsonl` behind its header. */
export type RunRecord = EvalRecord | FailedRecord;

/** Whether a record has no answer. */
export function isFailed(record: RunRecord): record is FailedRecord {
  return 'failure' in record;
}
