import type { Metric } from '../benchmark/types.js';
import { isFailed } from '../runner/records.js';
import type { EvalRecord, RunRecord } from '../runner/records.js';
import { isNullPrediction } from '../score.js';
import { estimate, meanOf } from './statistics.js';
import type { Interval } from './statistics.js';

/** What came out of some records. Means are over records with an answer; null where none can tell. */
export interface Figures {
  /** Records with an answer. */
  readonly n: number;
  /** Records without one. */
  readonly failed: number;
  /** 0 to 100, or nats a token; null when a task in it has no answer at all. */
  readonly score: number | null;
  /** Standard error of the score; null when a task in it has a single answer. */
  readonly se: number | null;
  readonly ci95: Interval | null;
  /** Empty predictions. */
  readonly nulls: number;
  readonly promptTokens: number | null;
  /** Rows in and stored after prefill, mean over layers and kv heads. */
  readonly rowsIn: number | null;
  readonly rowsStored: number | null;
  /** Rows stored in every layer, mean over kv heads. */
  readonly layerRows: readonly number[] | null;
  /** Bytes after prefill: held in pages, rows × row size, and that of uncompressed rows. */
  readonly kv: {
    readonly measuredBytes: number;
    readonly arithmeticBytes: number;
    readonly fullBytes: number;
  } | null;
  readonly prefillSeconds: number | null;
  readonly decodeSeconds: number | null;
  /** All decoded tokens over all decode time. */
  readonly decodeTokensPerSecond: number | null;
  /** Prefill and decode of a record. */
  readonly seconds: number | null;
  /** Prefill and decode of all records together. */
  readonly totalSeconds: number;
  /** Of a sparse prefill: blocks computed of those up to the diagonal. */
  readonly density: number | null;
  /** Distinct fallbacks that ran. */
  readonly fallbacks: readonly string[];
  /** How often each part of the policy acted, over all records; null where no engine told. */
  readonly acted: Readonly<Record<string, number>> | null;
}

/** Records that share a weight in the mean score. */
export interface RecordStratum {
  readonly weight: number;
  readonly records: readonly RunRecord[];
}

/** Figures of records; only the score heeds the weights. */
export function figuresOf(
  strata: readonly RecordStratum[],
  unit: NonNullable<Metric['unit']>,
): Figures {
  const all = strata.flatMap(({ records }) => records);
  const records = answered(all);
  const score = estimate(
    strata.map((stratum) => ({
      weight: stratum.weight,
      values: answered(stratum.records).map((record) => record.score),
    })),
    unit === 'percent',
  );
  const mean = (value: (record: EvalRecord) => number | undefined): number | null =>
    meanOrNull(records.flatMap((record) => value(record) ?? []));
  const sum = (value: (record: EvalRecord) => number): number =>
    records.reduce((total, record) => total + value(record), 0);
  const decodeSeconds = sum((record) => record.decodeSeconds);
  return {
    n: records.length,
    failed: all.length - records.length,
    score: score?.mean ?? null,
    se: score?.se ?? null,
    ci95: score?.ci95 ?? null,
    nulls: records.filter(isNull).length,
    promptTokens: mean((record) => record.promptTokens),
    rowsIn: mean((record) => record.receipt?.rowsIn),
    rowsStored: mean((record) => record.receipt?.rowsStored),
    layerRows: meanLayers(records),
    kv: meanBytes(records),
    prefillSeconds: mean((record) => record.prefillSeconds),
    decodeSeconds: mean((record) => record.decodeSeconds),
    decodeTokensPerSecond:
      decodeSeconds > 0 ? sum((record) => record.decodeTokens) / decodeSeconds : null,
    seconds: mean(secondsOf),
    totalSeconds: sum(secondsOf),
    density: mean((record) => record.receipt?.density),
    fallbacks: [...new Set(records.flatMap((record) => record.receipt?.fallbacks ?? []))].sort(),
    acted: sumActed(records),
  };
}

/** The records that have an answer. */
export function answered(records: readonly RunRecord[]): EvalRecord[] {
  return records.flatMap((record) => (isFailed(record) ? [] : record));
}

/** Seconds that answering one record took. */
export function secondsOf(record: EvalRecord): number {
  return record.prefillSeconds + record.decodeSeconds;
}

/** A record of a text has no prediction to be empty. */
function isNull(record: EvalRecord): boolean {
  return record.nll === undefined && isNullPrediction(record.prediction);
}

function meanOrNull(values: readonly number[]): number | null {
  return values.length === 0 ? null : meanOf(values);
}

function meanLayers(records: readonly EvalRecord[]): number[] | null {
  const rows = records.flatMap(({ receipt }) => (receipt === undefined ? [] : [receipt.layerRows]));
  const [first] = rows;
  if (first === undefined) return null;
  return first.map((_, layer) => meanOf(rows.map((own) => own[layer] ?? NaN)));
}

function meanBytes(records: readonly EvalRecord[]): Figures['kv'] {
  const bytes = records.flatMap(({ receipt }) => (receipt === undefined ? [] : [receipt.kv]));
  if (bytes.length === 0) return null;
  return {
    measuredBytes: meanOf(bytes.map(({ measuredBytes }) => measuredBytes)),
    arithmeticBytes: meanOf(bytes.map(({ arithmeticBytes }) => arithmeticBytes)),
    fullBytes: meanOf(bytes.map(({ fullBytes }) => fullBytes)),
  };
}

function sumActed(records: readonly EvalRecord[]): Record<string, number> | null {
  const acted = records.flatMap(({ receipt }) => (receipt === undefined ? [] : [receipt.acted]));
  if (acted.length === 0) return null;
  const sums = new Map<string, number>();
  for (const counts of acted) {
    for (const [part, times] of Object.entries(counts)) {
      sums.set(part, (sums.get(part) ?? 0) + times);
    }
  }
  return Object.fromEntries(sums);
}
