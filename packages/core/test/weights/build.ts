import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A header entry. */
export interface Entry {
  dtype: unknown;
  shape: unknown;
  data_offsets: unknown;
}

/** Bytes of a safetensors file from a header (object or text) and data. */
export function safetensors(header: object | string, data: Uint8Array | number): Uint8Array {
  const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([length, json, typeof data === 'number' ? Buffer.alloc(data) : data]);
}

/** A float32 header of tensors one after another. */
export function floats(shapes: Record<string, number[]>): {
  header: Record<string, Entry>;
  bytes: number;
} {
  const header: Record<string, Entry> = {};
  let at = 0;
  for (const [name, shape] of Object.entries(shapes)) {
    const end = at + 4 * shape.reduce((a, b) => a * b, 1);
    header[name] = { dtype: 'F32', shape, data_offsets: [at, end] };
    at = end;
  }
  return { header, bytes: at };
}

/** A temporary folder with files, removed on disposal. */
export function folder(files: Record<string, Uint8Array | string>): { path: string } & Disposable {
  const path = mkdtempSync(join(tmpdir(), 'accel-core-'));
  for (const [name, content] of Object.entries(files)) writeFileSync(join(path, name), content);
  return {
    path,
    [Symbol.dispose]: () => {
      rmSync(path, { recursive: true, force: true });
    },
  };
}
