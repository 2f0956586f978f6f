import { createHash } from 'node:crypto';
import { AccelError } from '@accel/kernels';
import { z } from 'zod';
import { describeIssues } from '../config/issues.js';
import type { PolicyJson } from '../policy/compose.js';
import { slots, type JsonObject, type JsonValue, type Slot } from '../policy/part.js';
import type { Counters } from '../sequence.js';
import { damaged, unusable, type OldFile } from './files.js';
import { fingerprintSchema, type Fingerprint } from './fingerprint.js';

/** Version of the format, in the file and in this reader. */
const VERSION = 1;
const MAGIC = new TextEncoder().encode('ACCELSEQ');
/** Magic, version, length of the header, SHA-256 of the header. */
const PREFIX_BYTES = 48;
/** Far above what any model needs, and little enough to be parsed without a thought. */
const MAX_HEADER_BYTES = 4 << 20;

/** Layout of encoded rows. */
interface Items {
  readonly rows: number;
  readonly bytes: number;
  readonly header: number;
}

/** A layer of the cache; one number per kv head. */
export interface SavedLayer {
  readonly rows: readonly number[];
  readonly encodedKeys: readonly number[];
  readonly encodedValues: readonly number[];
  /** What a budget part lets it hold. */
  readonly budget: number | null;
  /** Of its block in the payload. */
  readonly bytes: number;
}

/** What a part of the policy remembers and has done. */
export interface SavedPart {
  readonly state: JsonValue;
  readonly acted: number;
  readonly notes: readonly string[];
}

/** How rows are stored. */
export interface SavedCache {
  readonly tallies: number;
  readonly positions: 'stored' | 'implied';
  /** Key of the row format; null: all rows are plain. */
  readonly format: string | null;
  readonly keys: Items | null;
  readonly values: Items | null;
}

/** All of a saved sequence but the rows of its cache and its logits, which follow as the payload. */
export interface SavedHeader {
  readonly model: Fingerprint;
  readonly policy: PolicyJson;
  readonly cache: SavedCache;
  readonly seen: number;
  readonly turn: number;
  /** A token that was drawn but has not gone through the model yet. */
  readonly pending: number | null;
  /** Last positions whose logits are in the payload. */
  readonly logits: number;
  readonly counters: Counters;
  readonly parts: Readonly<Partial<Record<Slot, SavedPart>>>;
  readonly layers: readonly SavedLayer[];
  readonly payload: { readonly bytes: number; readonly sha256: string };
}

const count = z.int().min(0);
/** As many rows as a cache can have. */
const MAX_ROWS = 2 ** 30;
/** In one piece, so that a list of a million wrong items is one problem. */
const rowCounts = z.custom<readonly number[]>(
  (value) =>
    Array.isArray(value) &&
    value.every((rows) => Number.isInteger(rows) && rows >= 0 && rows <= MAX_ROWS),
  'must be a list of row counts',
);
/** A list whose length is looked at before its items are. */
function list<T>(item: z.ZodType<T>, most: number): z.ZodType<T[]> {
  return z.array(z.unknown()).max(most).pipe(z.array(item));
}
const json: z.ZodType<JsonValue> = z.json();
const options: z.ZodType<JsonObject> = z.record(z.string(), json);
const items: z.ZodType<Items> = z.strictObject({ rows: count, bytes: count, header: count });

const schema: z.ZodType<SavedHeader> = z.strictObject({
  model: fingerprintSchema,
  policy: z.strictObject({
    version: z.literal(1),
    parts: list(z.strictObject({ id: z.string(), slot: z.enum(slots), options }), slots.length),
  }),
  cache: z.strictObject({
    tallies: count,
    positions: z.enum(['stored', 'implied']),
    format: z.string().nullable(),
    keys: items.nullable(),
    values: items.nullable(),
  }),
  seen: z.int().min(1).max(MAX_ROWS),
  turn: z.int().min(1),
  pending: count.nullable(),
  logits: z.int().min(1),
  counters: z.strictObject({
    prefillTokens: count,
    decodeTokens: count,
    prefillSeconds: z.number().min(0),
    decodeSeconds: z.number().min(0),
  }),
  parts: z.partialRecord(
    z.enum(slots),
    z.strictObject({ state: json, acted: count, notes: list(z.string(), 1000) }),
  ),
  layers: list(
    z.strictObject({
      rows: rowCounts,
      encodedKeys: rowCounts,
      encodedValues: rowCounts,
      budget: z.int().min(1).nullable(),
      bytes: count,
    }),
    4096,
  ),
  payload: z.strictObject({ bytes: count, sha256: z.string() }),
});

/** The front of a file: prefix and header. @throws AccelError `ERR_ACCEL_POLICY` when parts remember too much */
export function encodeHeader(header: SavedHeader): Uint8Array {
  const json = new TextEncoder().encode(JSON.stringify(header));
  if (json.length > MAX_HEADER_BYTES) {
    throw new AccelError(
      'ERR_ACCEL_POLICY',
      `The sequence cannot be saved: its parts remember ${json.length} bytes, and ${MAX_HEADER_BYTES} is the most.`,
    );
  }
  const bytes = new Uint8Array(PREFIX_BYTES + json.length);
  const view = new DataView(bytes.buffer);
  bytes.set(MAGIC);
  view.setUint32(8, VERSION, true);
  view.setUint32(12, json.length, true);
  bytes.set(digest(json), 16);
  bytes.set(json, PREFIX_BYTES);
  return bytes;
}

/**
 * Reads and checks the front of a file. Numbers are in range one by one; whether they fit each other and the model is not
 * known yet.
 * @throws AccelError `ERR_ACCEL_SAVED_SEQUENCE`, `ERR_ACCEL_FILE`
 */
export async function readHeader(file: OldFile): Promise<SavedHeader> {
  const { path, size } = file;
  if (size < PREFIX_BYTES) {
    throw damaged(path, `is ${String(size)} bytes long, too short for a saved sequence`);
  }
  const prefix = await file.read(PREFIX_BYTES);
  const view = new DataView(prefix.buffer);
  if (MAGIC.some((byte, i) => byte !== prefix[i])) {
    throw unusable(path, 'is not a saved sequence: it begins with other bytes');
  }
  const version = view.getUint32(8, true);
  if (version !== VERSION) {
    throw unusable(
      path,
      `was written in version ${String(version)} of the format, and this version of @accel/core reads version ${String(VERSION)}`,
    );
  }
  const length = view.getUint32(12, true);
  if (length > Math.min(MAX_HEADER_BYTES, file.rest)) {
    throw damaged(
      path,
      `claims a header of ${String(length)} bytes, which does not fit (the file has ${String(size)})`,
    );
  }
  const json = await file.read(length);
  if (digest(json).some((byte, i) => byte !== prefix[16 + i])) {
    throw damaged(path, 'has a header that does not have its checksum');
  }
  return parse(path, json);
}

function parse(path: string, bytes: Uint8Array): SavedHeader {
  let result: z.ZodSafeParseResult<SavedHeader>;
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    result = schema.safeParse(JSON.parse(text));
  } catch (error) {
    // Not JSON, or nested too deeply to be looked through.
    throw damaged(path, `has a header that cannot be read (${(error as Error).message})`, error);
  }
  if (result.success) return result.data;
  const issues = describeIssues(result.error).slice(0, 300);
  throw damaged(path, `has an invalid header (${issues})`, result.error);
}

function digest(bytes: Uint8Array): Uint8Array {
  return createHash('sha256').update(bytes).digest();
}
