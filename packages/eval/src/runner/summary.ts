import { isNullPrediction, meanOf } from '../score.js';
import type { RunSettings } from './fingerprint.js';
import type { EvalRecord } from './types.js';

/** Results of one method at one length, of one task or over all tasks. */
export interface SummaryCell {
  readonly method: string;
  readonly length: number;
  /** Absent in averages over tasks. */
  readonly task?: string;
  /** Records. */
  readonly n: number;
  /** Mean over records, 0 to 100. Tasks have equally many records, so this is the mean over tasks too. */
  readonly score: number;
  /** Standard error of the mean over records; `null` for a single record. */
  readonly se: number | null;
  /** Empty predictions. */
  readonly nulls: number;
  readonly promptTokens: number;
  /** Rows in and stored after prefill, mean over layers, kv heads and records. */
  readonly rowsIn: number;
  readonly rowsStored: number;
  /** Means over records, bytes after prefill. */
  readonly kvMeasuredBytes: number;
  readonly kvArithmeticBytes: number;
  readonly kvFullBytes: number;
  /** Mean over records. */
  readonly prefillSeconds: number;
  /** All decoded tokens over all decode time; `null` when nothing was decoded. */
  readonly decodeTokensPerSecond: number | null;
  /** {@link ReceiptDigest.density}, mean over the records that have one; absent when none has. */
  readonly density?: number;
  /** Distinct fallbacks that ran. */
  readonly fallbacks: readonly string[];
}

/** Versions of what made the numbers. */
export interface EvalVersions {
  readonly eval: string;
  readonly core: string;
  readonly node: string;
}

/** A whole run. */
export interface EvalSummary {
  readonly settings: RunSettings;
  readonly versions: EvalVersions;
  readonly methods: readonly { readonly name: string; readonly policy: string }[];
  readonly samples: number;
  /** Wall-clock seconds of this call; records of an earlier call are not in it. */
  readonly seconds: number;
  /** By method, length and task. */
  readonly cells: readonly SummaryCell[];
  /** By method and length, over tasks. */
  readonly averages: readonly SummaryCell[];
}

/** Groups records into cells and averages, in the order in which methods, lengths and tasks first appear. */
export function summarise(records: readonly EvalRecord[]): Pick<EvalSummary, 'cells' | 'averages'> {
  return {
    cells: groups(records, ({ method, length, task }) => `${method}\0${length}\0${task}`).map(
      (group) => cell(group, group[0]?.task),
    ),
    averages: groups(records, ({ method, length }) => `${method}\0${length}`).map((group) =>
      cell(group),
    ),
  };
}

function groups(
  records: readonly EvalRecord[],
  key: (record: EvalRecord) => string,
): EvalRecord[][] {
  const found = new Map<string, EvalRecord[]>();
  for (const record of records) {
    const group = found.get(key(record));
    if (group === undefined) found.set(key(record), [record]);
    else group.push(record);
  }
  return [...found.values()];
}

function cell(records: readonly EvalRecord[], task?: string): SummaryCell {
  const mean = (value: (record: EvalRecord) => number): number => meanOf(records.map(value)).mean;
  const sum = (value: (record: EvalRecord) => number): number =>
    records.reduce((total, record) => total + value(record), 0);
  const score = meanOf(records.map((record) => record.score));
  const densities = records.flatMap(({ receipt }) => receipt.density ?? []);
  const decodeTokens = sum((record) => record.decodeTokens);
  return {
    method: records[0]?.method ?? '',
    length: records[0]?.length ?? 0,
    ...(task !== undefined && { task }),
    n: score.n,
    score: score.mean,
    se: score.se,
    nulls: records.filter((record) => isNullPrediction(record.prediction)).length,
    promptTokens: mean((record) => record.promptTokens),
    rowsIn: mean((record) => record.receipt.rowsIn),
    rowsStored: mean((record) => record.receipt.rowsStored),
    kvMeasuredBytes: mean((record) => record.receipt.kv.measuredBytes),
    kvArithmeticBytes: mean((record) => record.receipt.kv.arithmeticBytes),
    kvFullBytes: mean((record) => record.receipt.kv.fullBytes),
    prefillSeconds: mean((record) => record.prefillSeconds),
    decodeTokensPerSecond:
      decodeTokens === 0 ? null : decodeTokens / sum((record) => record.decodeSeconds),
    ...(densities.length > 0 && { density: meanOf(densities).mean }),
    fallbacks: [...new Set(records.flatMap((record) => record.receipt.fallbacks))],
  };
}
