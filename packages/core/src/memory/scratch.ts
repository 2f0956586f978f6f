import { dtypeBytes } from '@accel/kernels';
import type { Chunk } from '../engine/chunks.js';
import { BLOCK } from '../policy/prefill.js';
import { ScratchArena } from './arena.js';
import type { MemoryTarget } from './device.js';
import { layerChunks, type PassOutline } from './workspace.js';

/** What cuBLASLt's algorithms may use while they are timed: `kWorkspaceBytes` of kernels/src/cuda/gemm/lt_plan.h. */
const LT_WORKSPACE = 32 * 2 ** 20;
/** Rows from which they are timed (cublaslt.cc). */
const TIMED_ROWS = 256;

/**
 * Scratch memory of the ops of a run on a GPU. Prompts need most: matrix products, sums over columns, choices of blocks. The
 * algorithms that win need no memory of their own: the peaks of docs/performance.md leave no room for any.
 * @param batch sequences that decode together; 0 without decode steps
 */
export function scratchArena(pass: PassOutline, batch: number, target: MemoryTarget): ScratchArena {
  const arena = new ScratchArena();
  const products = new Products(pass);
  for (const chunk of layerChunks(pass)) layerOps(arena, products, pass, chunk);
  if (batch > 0) arena.op(decodePieces(pass, batch, target));
  return arena;
}

/** The ops of a chunk in one layer, in the engine's order; all layers take the same. */
function layerOps(arena: ScratchArena, products: Products, pass: PassOutline, chunk: Chunk): void {
  const { spec, dtype, parts } = pass;
  const { hiddenSize, intermediateSize, heads, kvHeads, headDim } = spec;
  const rows = chunk.end - chunk.begin;
  const [q, kv] = [heads * headDim, kvHeads * headDim];
  arena.op([q, kv, kv].flatMap((out) => products.plain(rows, out, hiddenSize)));
  for (const { begin, end, offset } of chunk.pieces) {
    const m = end - begin;
    const seen = offset + m;
    if (parts.prefill !== undefined && m >= BLOCK) {
      arena.op(parts.prefill.scratchBytes?.({ spec, dtype, m, rows: seen }) ?? []);
      arena.op([4 * heads * tiles(m, seen)]);
    }
    // Sums of every query head, before they are joined.
    if (parts.countsPrompt) arena.op([4 * seen * heads]);
  }
  arena.op(products.added(rows, hiddenSize, q));
  arena.op([
    rows * intermediateSize * dtypeBytes(dtype), // the second factor
    ...products.plain(rows, intermediateSize, hiddenSize),
    ...products.plain(rows, intermediateSize, hiddenSize),
  ]);
  arena.op(products.added(rows, hiddenSize, intermediateSize));
}

/** What matrix products take: the first of a shape is timed. */
class Products {
  readonly #element: number;
  readonly #timed = new Set<string>();

  constructor({ dtype }: PassOutline) {
    this.#element = dtypeBytes(dtype);
  }

  plain(rows: number, out: number, into: number): number[] {
    return this.#isNew(rows, out, into) ? [LT_WORKSPACE] : [];
  }

  /** Of a product that is added to what is there: it is timed on a result of its own. */
  added(rows: number, out: number, into: number): number[] {
    if (!this.#isNew(rows, out, into)) return [];
    return [rows * out * this.#element, LT_WORKSPACE];
  }

  #isNew(rows: number, out: number, into: number): boolean {
    if (rows < TIMED_ROWS) return false;
    const key = [Math.floor(Math.log2(rows)), out, into].join(' ');
    if (this.#timed.has(key)) return false;
    this.#timed.add(key);
    return true;
  }
}

/** Partial results of split attention in a decode step (kernels/src/cuda/attention/decode.cu). */
function decodePieces(
  { spec }: PassOutline,
  sequences: number,
  { multiprocessors = 132 }: MemoryTarget,
): number[] {
  const units = sequences * spec.kvHeads;
  const packed = spec.heads / spec.kvHeads <= 16 ? 16 : 32;
  const segments = (2 * multiprocessors + units) * packed;
  return [8 * segments, 4 * segments * spec.headDim, 8 * units];
}

/** Tiles of `m` queries that see `rows` rows, when all are computed. */
function tiles(m: number, rows: number): number {
  const blocks = Math.ceil(m / BLOCK);
  const past = Math.ceil((rows - m) / BLOCK);
  return blocks * past + (blocks * (blocks + 1)) / 2;
}
