import type { GenerateOptions, Sequence } from '@accel/core';
import { expect } from 'vitest';
import { generated } from '../generator.js';
import type { Step, Suite } from './types.js';

/** `count` byte tokens, the same for the same seed. */
export function tokens(count: number, seed: number): Int32Array {
  return Int32Array.from(generated(seed, count), (x) => Math.min(255, Math.floor((x + 1) * 128)));
}

/** Everything a generation drew. */
export async function draw(
  sequence: Sequence,
  count: number,
  options: GenerateOptions = {},
): Promise<number[]> {
  const ids: number[] = [];
  for await (const { id } of sequence.generate({ maxTokens: count, ignoreEos: true, ...options }))
    ids.push(id);
  return ids;
}

/** Original positions of all stored rows, `[layer][head]`. */
export async function keptRows(sequence: Sequence): Promise<Int32Array[][]> {
  const { layers, kvHeads } = sequence.model.spec;
  const view = sequence.view();
  const all: Int32Array[][] = [];
  for (let layer = 0; layer < layers; layer++) {
    const heads: Int32Array[] = [];
    for (let head = 0; head < kvHeads; head++) heads.push(await view.positions(layer, head));
    all.push(heads);
  }
  return all;
}

/** Follows a sequence and says how many rows each head of every layer should hold. */
export class RowCount {
  readonly #suite: Suite;
  readonly #capacity: number;
  #turn = 0;
  /** By layer. */
  rows: readonly number[];

  constructor(suite: Suite, capacity: number) {
    this.#suite = suite;
    this.#capacity = capacity;
    this.rows = new Array<number>(suite.model().spec.layers).fill(0);
  }

  append(count: number): void {
    this.#step('prefill', count);
    this.#turn += 1;
  }

  decode(steps: number): void {
    for (let i = 0; i < steps; i++) this.#step('decode', 1);
  }

  #step(phase: Step['phase'], added: number): void {
    const step = {
      phase,
      capacity: this.#capacity,
      turn: Math.max(0, this.#turn - Number(phase === 'decode')),
      layers: this.rows.length,
    };
    this.rows = this.rows.map((rows, layer) =>
      this.#suite.kept({ ...step, layer, rows: rows + added }),
    );
  }
}

/** Every head of every layer holds `rows` rows (a list: of its layer), at ascending positions that were seen. */
export async function expectRows(
  sequence: Sequence,
  rows: number | readonly number[],
  when: string,
): Promise<void> {
  const seen = sequence.length;
  for (const [layer, heads] of (await keptRows(sequence)).entries()) {
    for (const [head, positions] of heads.entries()) {
      const where = `${when}, layer ${layer}, head ${head}`;
      const want = typeof rows === 'number' ? rows : rows[layer];
      expect(positions.length, `rows ${where}`).toBe(want);
      expect(sequence.view().rows(layer, head), `count ${where}`).toBe(want);
      for (const [i, position] of positions.entries()) {
        const before = i === 0 ? -1 : (positions[i - 1] as number);
        if (position <= before || position >= seen) {
          expect.fail(`positions ${where} must ascend below ${seen}: …${before}, ${position}…`);
        }
      }
    }
  }
}
