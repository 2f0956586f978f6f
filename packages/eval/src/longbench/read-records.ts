import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { fileError, messageOf } from '../errors.js';
import { readText } from '../text/read-text.js';
import { longBenchRecord, type LongBenchRecord } from './record.js';
import { readParquet } from './read-parquet.js';

/** The samples of a task. */
export interface LongBenchRecords {
  /** The first of them, as many as were asked for and one more. */
  readonly records: readonly LongBenchRecord[];
  /** How many the files have. */
  readonly available: number;
  /** Class names of the last record: LongBench scores every record of a task with these. */
  readonly classes: readonly string[];
  /** SHA-256 over all records, whatever kind of file they came in. */
  readonly digest: string;
}

/** A row of a file, and what an error message calls it. */
interface Row {
  readonly value: unknown;
  readonly place: string;
}

/**
 * Reads the samples of a task from a folder: `<task>.jsonl` or `<task>.jsonl.gz`, also in `data/` as the official
 * archive unpacks; else `<task>/test-*.parquet`, as newer copies on the Hugging Face Hub have them.
 *
 * @param most samples that will be used; null: all. All are checked, but long texts beyond these are not kept.
 * @throws AccelError ERR_ACCEL_FILE when there is no such file; with file and line, when a record is not one
 */
export async function readLongBench(
  folder: string,
  task: string,
  most: number | null,
): Promise<LongBenchRecords> {
  const rows = (await jsonRows(folder, task)) ?? (await parquetRows(folder, task));
  if (rows === undefined) {
    throw fileError(
      `There is no ${task}.jsonl, ${task}.jsonl.gz, data/${task}.jsonl or ${task}/test-*.parquet in ${folder}. ` +
        'Set dataPath to the unpacked data.zip of LongBench, or leave the task out.',
    );
  }
  const records: LongBenchRecord[] = [];
  const digest = createHash('sha256');
  let available = 0;
  let classes: readonly string[] = [];
  for (const row of rows) {
    const record = checkRow(row);
    digest.update(JSON.stringify(record)).update('\n');
    if (most === null || available <= most) records.push(record);
    classes = record.all_classes ?? [];
    available++;
  }
  if (available === 0) throw fileError(`${task} in ${folder} has no records. Get the data again.`);
  return { records, available, classes, digest: digest.digest('hex') };
}

/** Lines of a JSON lines file, parsed one after another. */
async function jsonRows(folder: string, task: string): Promise<Iterable<Row> | undefined> {
  const path = [`${task}.jsonl`, `${task}.jsonl.gz`]
    .flatMap((name) => [join(folder, name), join(folder, 'data', name)])
    .find(existsSync);
  if (path === undefined) return undefined;
  return parseLines(path, await readText(path, `LongBench's ${task}`));
}

function* parseLines(path: string, text: string): Generator<Row> {
  for (const [index, line] of text.split('\n').entries()) {
    if (line.trim() === '') continue;
    const place = `${path}:${String(index + 1)}`;
    try {
      yield { value: JSON.parse(line) as unknown, place };
    } catch (error) {
      throw fileError(`${place} is not JSON: ${messageOf(error)}. Get the file again.`, error);
    }
  }
}

async function parquetRows(folder: string, task: string): Promise<Row[] | undefined> {
  const inside = join(folder, task);
  if (!existsSync(inside)) return undefined;
  const shards = (await readdir(inside)).filter((name) => /^test-.*\.parquet$/.test(name)).sort();
  if (shards.length === 0) return undefined;
  const rows: Row[] = [];
  for (const path of shards.map((name) => join(inside, name))) {
    for (const [index, value] of (await readParquet(path)).entries()) {
      rows.push({ value, place: `${path}, row ${String(index)}` });
    }
  }
  return rows;
}

function checkRow({ value, place }: Row): LongBenchRecord {
  const parsed = longBenchRecord.safeParse(value);
  if (parsed.success) return parsed.data;
  throw fileError(
    `${place} is not a LongBench record.\n${z.prettifyError(parsed.error)}\nGet the file again.`,
    parsed.error,
  );
}
