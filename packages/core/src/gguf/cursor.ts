import { damaged } from '../weights/header.js';

/** Bytes that can be read piece by piece, such as a `MappedFile`. */
export interface ByteSource {
  readonly byteLength: number;
  /** A copy of bytes `[offset, offset + length)`, which must exist. */
  bytes(offset: number, length: number): Uint8Array;
}

const WINDOW_BYTES = 2 ** 20;

/**
 * Walks over the numbers and texts of a file from front to back. Nothing is believed: each length is compared with what
 * the file still has before anything is read or allocated. At most a window of 1 MiB, or one text, is held at a time.
 */
export class Cursor {
  readonly #file: string;
  readonly #source: ByteSource;
  #at: number;
  #window: DataView = new DataView(new ArrayBuffer(0));
  #windowStart = 0;

  /** @param file name for messages */
  constructor(file: string, source: ByteSource, at = 0) {
    this.#file = file;
    this.#source = source;
    this.#at = at;
  }

  /** Offset of the next byte. */
  get at(): number {
    return this.#at;
  }

  /** Bytes that follow. */
  get left(): number {
    return this.#source.byteLength - this.#at;
  }

  u32(): number {
    const at = this.#take(4);
    return this.#window.getUint32(at, true);
  }

  /** @throws AccelError `ERR_ACCEL_WEIGHTS` when it is above 2^53, which counts and offsets of a file cannot be */
  u64(): number {
    const at = this.#take(8);
    const high = this.#window.getUint32(at + 4, true);
    if (high >= 2 ** 21) {
      const value = this.#window.getBigUint64(at, true);
      throw damaged(
        this.#file,
        `has the number ${value} at byte ${this.#at - 8}, above all sizes of a file`,
      );
    }
    return high * 2 ** 32 + this.#window.getUint32(at, true);
  }

  /** A text that is preceded by its length. @param most bytes it may have */
  text(most: number): string {
    const length = this.u64();
    if (length > most) {
      throw damaged(
        this.#file,
        `has a name of ${length} bytes at byte ${this.#at}; at most ${most} are allowed`,
      );
    }
    const at = this.#take(length);
    const bytes = new Uint8Array(this.#window.buffer, this.#window.byteOffset + at, length);
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch (error) {
      throw damaged(this.#file, `has a name at byte ${this.#at - length} that is not UTF-8`, error);
    }
  }

  skip(bytes: number): void {
    this.#require(bytes);
    this.#at += bytes;
  }

  /** Index in the window of the next `bytes` bytes, which are taken. */
  #take(bytes: number): number {
    this.#require(bytes);
    const begin = this.#at - this.#windowStart;
    this.#at += bytes;
    if (begin >= 0 && begin + bytes <= this.#window.byteLength) return begin;
    this.#windowStart = this.#at - bytes;
    const length = Math.min(
      Math.max(bytes, WINDOW_BYTES),
      this.#source.byteLength - this.#windowStart,
    );
    const { buffer, byteOffset, byteLength } = this.#source.bytes(this.#windowStart, length);
    this.#window = new DataView(buffer, byteOffset, byteLength);
    return 0;
  }

  #require(bytes: number): void {
    if (bytes <= this.left) return;
    throw damaged(
      this.#file,
      `ends inside its header: ${bytes} bytes are needed at byte ${this.#at} of ${this.#source.byteLength}`,
    );
  }
}
