import { open, readFile } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { z } from 'zod';
import { configError, fileError, messageOf } from '../errors.js';
import { writeWhole } from './files.js';
import type { RunSettings } from './fingerprint.js';
import type { EvalRecord } from './types.js';

const FORMAT = 'accel-eval-records/1';

const headerLine = z.object({
  format: z.literal(FORMAT),
  settings: z.record(z.string(), z.unknown()),
});

const count = z.number().int().nonnegative();
const recordLine: z.ZodType<EvalRecord> = z.object({
  id: z.string(),
  task: z.string(),
  length: count,
  sample: count,
  method: z.string(),
  policy: z.string(),
  promptTokens: count,
  newTokens: count,
  prediction: z.string(),
  references: z.array(z.string()),
  score: z.number().min(0).max(100),
  prefillSeconds: z.number(),
  decodeTokensPerSecond: z.number().nullable(),
  decodeSeconds: z.number(),
  decodeTokens: count,
  receipt: z.object({
    rowsIn: z.number(),
    rowsStored: z.number(),
    kv: z.object({ measuredBytes: z.number(), arithmeticBytes: z.number(), fullBytes: z.number() }),
    density: z.number().optional(),
    fallbacks: z.array(z.string()),
    kernels: z.record(z.string(), z.number()),
  }),
});

/**
 * The record file of a run: a line with the run's settings, then one line a record. Lines are appended whole and
 * flushed, so after a crash at most the last line is incomplete; it is dropped when the file is opened again.
 */
export class RecordFile {
  readonly #file: FileHandle;
  readonly #path: string;
  /** Finished records by id. */
  readonly records: ReadonlyMap<string, EvalRecord>;

  private constructor(path: string, file: FileHandle, records: ReadonlyMap<string, EvalRecord>) {
    this.#path = path;
    this.#file = file;
    this.records = records;
  }

  /**
   * Creates the file, or opens an existing one to continue it.
   *
   * @param policies method name → policy digest of this run
   * @throws AccelError ERR_ACCEL_CONFIG when the file belongs to a run with other settings; ERR_ACCEL_FILE when it
   * cannot be read or written
   */
  static async open(
    path: string,
    settings: RunSettings,
    policies: ReadonlyMap<string, string>,
  ): Promise<RecordFile> {
    const text = await readIfThere(path);
    const lines =
      text
        ?.slice(0, text.lastIndexOf('\n') + 1)
        .split('\n')
        .slice(0, -1) ?? [];
    const [header, ...rest] = lines;
    const records = new Map<string, EvalRecord>();
    if (text === undefined || header === undefined) {
      await writeWhole(path, `${JSON.stringify({ format: FORMAT, settings })}\n`);
    } else {
      checkSettings(path, header, settings);
      for (const [i, line] of rest.entries()) {
        const record = parseRecord(path, i + 2, line);
        checkPolicy(path, record, policies);
        records.set(record.id, record);
      }
      if (!text.endsWith('\n')) await writeWhole(path, `${lines.join('\n')}\n`);
    }
    try {
      return new RecordFile(path, await open(path, 'a'), records);
    } catch (error) {
      throw fileError(
        `Cannot append to ${path}: ${messageOf(error)}. Check its permissions.`,
        error,
      );
    }
  }

  /** Appends one record and waits until it is on disk. */
  async append(record: EvalRecord): Promise<void> {
    try {
      await this.#file.appendFile(`${JSON.stringify(record)}\n`);
      await this.#file.datasync();
    } catch (error) {
      throw fileError(
        `Cannot append to ${this.#path}: ${messageOf(error)}. Free some space and run again to continue.`,
        error,
      );
    }
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw fileError(`Cannot read ${path}: ${messageOf(error)}.`, error);
  }
}

function checkSettings(path: string, line: string, settings: RunSettings): void {
  const parsed = headerLine.safeParse(parseJson(line));
  if (!parsed.success) {
    throw configError(
      `${path} is not a record file of this version (its first line is not a header). Choose another output folder or delete the file.`,
    );
  }
  const before = parsed.data.settings;
  const differing = Object.entries(settings)
    .filter(([key, value]) => JSON.stringify(before[key]) !== JSON.stringify(value))
    .map(
      ([key, value]) =>
        `${key} was ${JSON.stringify(before[key])} and is now ${JSON.stringify(value)}`,
    );
  if (differing.length === 0) return;
  throw configError(
    `${path} holds a run with other settings: ${differing.join('; ')}. Run with the earlier settings to continue it, choose another output folder, or delete the file to start again.`,
  );
}

function parseRecord(path: string, number: number, line: string): EvalRecord {
  const parsed = recordLine.safeParse(parseJson(line));
  if (parsed.success) return parsed.data;
  throw fileError(
    `${path}:${number} is not a record: ${z.prettifyError(parsed.error)}. Delete that line to have it run again, or choose another output folder.`,
    parsed.error,
  );
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

function checkPolicy(
  path: string,
  record: EvalRecord,
  policies: ReadonlyMap<string, string>,
): void {
  const policy = policies.get(record.method);
  if (policy === undefined || policy === record.policy) return;
  throw configError(
    `${path} holds records of the method ${record.method} with other options. Give the method another name, run it with the earlier options, or choose another output folder.`,
  );
}
