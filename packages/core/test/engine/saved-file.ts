import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { JsonValue } from '../../src/index.js';

/** A saved sequence taken apart, as docs/saved-sequences.md describes it; shares no code with the reader under test. */
export interface SavedFile {
  readonly header: Readonly<Record<string, JsonValue>>;
  readonly payload: Buffer;
}

const sha256 = (bytes: Uint8Array): Buffer => createHash('sha256').update(bytes).digest();

export function takeApart(path: string): SavedFile {
  const bytes = readFileSync(path);
  const length = bytes.readUInt32LE(12);
  const header = JSON.parse(bytes.toString('utf8', 48, 48 + length)) as SavedFile['header'];
  return { header, payload: bytes.subarray(48 + length) };
}

/** A file with checksums that are right, whatever it says. */
export function putTogether({ header, payload }: SavedFile): Buffer {
  const { payload: claim } = header as { payload?: object };
  const signed = claim && { ...claim, sha256: sha256(payload).toString('hex') };
  return seal(JSON.stringify({ ...header, ...(signed && { payload: signed }) }), payload);
}

/** The same for any text in place of the header. */
export function seal(header: string, payload: Uint8Array): Buffer {
  const json = Buffer.from(header);
  const prefix = Buffer.alloc(48);
  prefix.write('ACCELSEQ');
  prefix.writeUInt32LE(1, 8);
  prefix.writeUInt32LE(json.length, 12);
  sha256(json).copy(prefix, 16);
  return Buffer.concat([prefix, json, payload]);
}
