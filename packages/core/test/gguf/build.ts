import { parseGguf } from '../../src/gguf/header.js';
import type { ByteSource } from '../../src/gguf/cursor.js';
import type { Metadata } from '../../src/gguf/metadata.js';
import { ggufBytes, type GgufValue } from './writer.js';

/** Bytes in memory as a file. */
export function source(bytes: Uint8Array): ByteSource {
  return {
    byteLength: bytes.length,
    bytes: (offset, length) => {
      if (offset < 0 || offset + length > bytes.length) {
        throw new RangeError(`bytes ${offset} + ${length} of ${bytes.length} were asked for`);
      }
      return bytes.slice(offset, offset + length);
    },
  };
}

/** Metadata as a file has them. */
export function metadataOf(values: Readonly<Record<string, GgufValue>>): Metadata {
  return parseGguf('test.gguf', source(ggufBytes({ metadata: values }))).metadata;
}
