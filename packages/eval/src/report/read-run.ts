import { readFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { z } from 'zod';
import { configError, fileError, messageOf } from '../errors.js';
import { parseHeader, parseRecord } from '../runner/record-line.js';
import type { RunRecord } from '../runner/records.js';
import type { RunFile } from '../runner/run-file.js';
import { runFile } from './run-file-schema.js';
import { summarise } from './summary.js';
import type { EvalSummary } from './summary.js';

/** A run as it lies in its folder. */
export interface LoadedRun {
  /** The folder's name, by which reports call the run. */
  readonly name: string;
  readonly folder: string;
  readonly run: RunFile;
  /** The last record of every id, in the order of the file. */
  readonly records: readonly RunRecord[];
  /** Made from the records, so that it also fits a run that is not complete. */
  readonly summary: EvalSummary;
}

/**
 * Reads `run.json` and `records.jsonl` of a run's folder. A last line that was cut off by a crash is left out.
 *
 * @throws AccelError ERR_ACCEL_FILE when a file is missing or broken; ERR_ACCEL_CONFIG when the folder is of another
 * version, or the records are of another run
 */
export async function readRun(folder: string): Promise<LoadedRun> {
  const run = parseRunFile(join(folder, 'run.json'), await readText(folder, 'run.json'));
  const path = join(folder, 'records.jsonl');
  const text = await readText(folder, 'records.jsonl');
  const [header, ...lines] = text.slice(0, text.lastIndexOf('\n') + 1).split('\n');
  if (parseHeader(header ?? '') === undefined) {
    throw configError(
      `${path} is not a record file of this version (its first line is not a header). Run the evaluation again in another folder.`,
    );
  }
  const methods = new Set(run.methods.map(({ name }) => name));
  const records = new Map<string, RunRecord>();
  for (const [i, line] of lines.entries()) {
    if (line === '') continue;
    const record = parseRecord(`${path}:${i + 2}`, line);
    if (!methods.has(record.method)) {
      throw configError(
        `${path}:${i + 2} is a record of the method ${record.method}, which run.json does not name (${[...methods].join(', ')}). The two files are not of one run.`,
      );
    }
    records.set(record.id, record);
  }
  const found = [...records.values()];
  return {
    name: basename(resolve(folder)),
    folder,
    run,
    records: found,
    summary: summarise(run, found),
  };
}

async function readText(folder: string, name: string): Promise<string> {
  const path = join(folder, name);
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    const missing = error instanceof Error && 'code' in error && error.code === 'ENOENT';
    throw fileError(
      missing
        ? `There is no ${path}. Give the folder of a run: one that accel eval made, with run.json and records.jsonl in it.`
        : `Cannot read ${path}: ${messageOf(error)}.`,
      error,
    );
  }
}

function parseRunFile(path: string, text: string): RunFile {
  const json = parseJson(text);
  const version = z.object({ format: z.string() }).safeParse(json);
  if (version.success && version.data.format !== 'accel-eval-run/2') {
    throw configError(
      `${path} has the format ${version.data.format}, not accel-eval-run/2. Use the version of accel that made the run.`,
    );
  }
  const parsed = runFile.safeParse(json);
  if (parsed.success) return parsed.data;
  throw fileError(
    `${path} is not the description of a run: ${z.prettifyError(parsed.error)}. Restore it, or run the evaluation again in another folder.`,
    parsed.error,
  );
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
