const LEAST = 4 * 2 ** 20;
const UNIT = 2 * 2 ** 20;

/**
 * Scratch memory of a stream's ops on a GPU, block by block, as kernels/src/cuda/runtime/arena.cc takes it: every op begins anew,
 * in a block that is replaced by a larger one when it was too small. What was replaced stays with the process, for the next block
 * of up to its size.
 */
export class ScratchArena {
  #blocks: number[] = [];
  #idle: number[] = [];
  #wanted = LEAST;

  /** Bytes of the blocks in use. */
  get bytes(): number {
    return this.#blocks.reduce((sum, block) => sum + block, 0);
  }

  /** Bytes of the blocks that proved too small. */
  get idle(): number {
    return this.#idle.reduce((sum, block) => sum + block, 0);
  }

  /** An op that takes pieces of so many bytes. */
  op(pieces: readonly number[]): void {
    const blocks = this.#blocks.map((size) => ({ size, used: 0 }));
    for (const piece of pieces) {
      const bytes = Math.max(256, Math.ceil(piece / 256) * 256);
      const room = blocks.find(({ size, used }) => bytes <= size - used);
      if (room !== undefined) {
        room.used += bytes;
        continue;
      }
      blocks.push({ size: this.#take(Math.max(bytes, this.#wanted)), used: bytes });
      blocks.sort((a, b) => b.size - a.size);
    }
    const used = blocks.reduce((sum, block) => sum + block.used, 0);
    const [largest] = blocks;
    const fits = largest !== undefined && used <= largest.size;
    this.#wanted = Math.max(this.#wanted, fits ? used : Math.floor((used * 5) / 4));
    this.#blocks = fits ? [largest.size] : [];
    this.#idle.push(...blocks.slice(fits ? 1 : 0).map(({ size }) => size));
  }

  /** The smallest idle block that is large enough, unless it is more than twice as large. */
  #take(bytes: number): number {
    const size = Math.ceil(bytes / UNIT) * UNIT;
    this.#idle.sort((a, b) => a - b);
    const at = this.#idle.findIndex((idle) => idle >= size && idle <= 2 * size);
    return at < 0 ? size : (this.#idle.splice(at, 1)[0] ?? size);
  }
}
