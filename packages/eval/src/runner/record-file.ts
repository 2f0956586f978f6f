import { open, readFile } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { configError, fileError, messageOf } from '../errors.js';
import { writeWhole } from './files.js';
import type { RunSettings } from './fingerprint.js';
import { parseHeader, parseRecord, RECORDS_FORMAT } from './record-line.js';
import type { RunRecord } from './records.js';

/**
 * The record file of a run: a line with the run's settings, then one line a record. Lines are appended whole and
 * flushed, so after a crash at most the last line is incomplete; it is dropped when the file is opened again. Where an id
 * occurs twice (a failed record that was tried again) the later line counts.
 */
export class RecordFile {
  readonly #file: FileHandle;
  readonly #path: string;
  readonly #settings: RunSettings;
  /** Records by id, as of the moment the file was opened. */
  readonly records: ReadonlyMap<string, RunRecord>;

  private constructor(
    path: string,
    settings: RunSettings,
    file: FileHandle,
    records: ReadonlyMap<string, RunRecord>,
  ) {
    this.#path = path;
    this.#settings = settings;
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
    const records = new Map<string, RunRecord>();
    if (text === undefined || header === undefined) {
      await writeWhole(path, headerOf(settings));
    } else {
      checkSettings(path, header, settings);
      for (const [i, line] of rest.entries()) {
        const record = parseRecord(`${path}:${i + 2}`, line);
        checkPolicy(path, record, policies);
        records.set(record.id, record);
      }
      if (!text.endsWith('\n')) await writeWhole(path, `${lines.join('\n')}\n`);
    }
    return new RecordFile(path, settings, await openToAppend(path), records);
  }

  /** Appends records and waits until they are on disk. */
  async append(records: readonly RunRecord[]): Promise<void> {
    try {
      await this.#file.appendFile(linesOf(records));
      await this.#file.datasync();
    } catch (error) {
      throw fileError(
        `Cannot append to ${this.#path}: ${messageOf(error)}. Free some space and run again to continue.`,
        error,
      );
    }
  }

  /** Puts all records of the run in their order, whatever the order in which they were finished. */
  async rewrite(records: readonly RunRecord[]): Promise<void> {
    await writeWhole(this.#path, headerOf(this.#settings) + linesOf(records));
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}

function headerOf(settings: RunSettings): string {
  return `${JSON.stringify({ format: RECORDS_FORMAT, settings })}\n`;
}

function linesOf(records: readonly RunRecord[]): string {
  return records.map((record) => `${JSON.stringify(record)}\n`).join('');
}

async function openToAppend(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'a');
  } catch (error) {
    throw fileError(`Cannot append to ${path}: ${messageOf(error)}. Check its permissions.`, error);
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
  const before = parseHeader(line);
  if (before === undefined) {
    throw configError(
      `${path} is not a record file of this version (its first line is not a header). Choose another output folder or delete the file.`,
    );
  }
  const [was, is] = [flat(before), flat(settings)];
  const differing = [...new Set([...was.keys(), ...is.keys()])]
    .filter((key) => was.get(key) !== is.get(key))
    .map((key) => `${key} was ${was.get(key) ?? 'not set'} and is now ${is.get(key) ?? 'not set'}`);
  if (differing.length === 0) return;
  throw configError(
    `${path} holds a run with other settings: ${differing.join('; ')}. Run with the earlier settings to continue it, choose another output folder, or delete the file to start again.`,
  );
}

/** Settings by name, those of the config among them, as JSON. */
function flat(settings: object): Map<string, string> {
  const { config, ...rest } = settings as { config?: object };
  return new Map(
    Object.entries({ ...rest, ...config }).map(([key, value]) => [key, JSON.stringify(value)]),
  );
}

function checkPolicy(path: string, record: RunRecord, policies: ReadonlyMap<string, string>): void {
  const policy = policies.get(record.method);
  if (policy === undefined || policy === record.policy) return;
  throw configError(
    `${path} holds records of the method ${record.method} with other options. Give the method another name, run it with the earlier options, or choose another output folder.`,
  );
}
