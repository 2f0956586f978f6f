import { ops, Tensor, type KvSequence } from '@accel/kernels';

/** Bytes that are on their way at a time. Hashing them is what the event loop notices: a millisecond or two. */
const PIECE_BYTES = 1 << 20;

/** Consecutive bytes of a payload. */
export interface Piece {
  readonly bytes: number;
  /** From the device. */
  read(): Promise<Uint8Array>;
  /** To the device; only enqueues. */
  write(bytes: Uint8Array<ArrayBuffer>): void;
}

/**
 * A payload in pieces, to be gone through once: the blocks of all layers (`ops.kvExport` says what is in them), then float32
 * logits.
 * @param blocks bytes of each layer's block
 */
export function* payloadPieces(
  kv: KvSequence,
  blocks: readonly number[],
  logits: Tensor,
): Generator<Piece, void, undefined> {
  for (const [layer, size] of blocks.entries()) {
    for (const [begin, end] of ranges(size)) yield cachePiece(kv, layer, begin, end - begin);
  }
  for (const [begin, end] of ranges(logits.byteLength)) {
    yield logitsPiece(kv, logits, begin / 4, end / 4);
  }
}

function cachePiece(kv: KvSequence, layer: number, offset: number, bytes: number): Piece {
  const { stream } = kv.pool;
  return {
    bytes,
    async read() {
      using block = Tensor.empty(stream.device, 'uint8', [bytes]);
      ops.kvExport(stream, block, kv.kv(layer), offset);
      return (await block.read(stream)) as Uint8Array;
    },
    write(data) {
      using block = Tensor.empty(stream.device, 'uint8', [bytes]);
      block.write(stream, data);
      ops.kvImport(stream, kv.kv(layer), block, offset);
    },
  };
}

function logitsPiece(kv: KvSequence, logits: Tensor, begin: number, end: number): Piece {
  const { stream } = kv.pool;
  const part = (): Tensor => {
    using all = logits.view([logits.size]);
    return all.slice(begin, end);
  };
  return {
    bytes: 4 * (end - begin),
    async read() {
      using numbers = part();
      const { buffer } = await numbers.read(stream);
      return new Uint8Array(buffer);
    },
    write(data) {
      using numbers = part();
      numbers.write(stream, new Float32Array(data.buffer));
    },
  };
}

function* ranges(size: number): Generator<[begin: number, end: number], void, undefined> {
  for (let begin = 0; begin < size; begin += PIECE_BYTES) {
    yield [begin, Math.min(size, begin + PIECE_BYTES)];
  }
}
