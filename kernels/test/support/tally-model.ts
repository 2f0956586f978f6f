import { expect } from 'vitest';
import { AccelError, ops, Tensor, type KvSequence } from '../../ts/index.js';
import { Mirror, type Bench } from './kv-model.js';

/**
 * A {@link Mirror} whose rows also carry tallies: `marks[layer][head][row]` lists them. All heads of a layer have the
 * same number of rows. Marks are small whole numbers, so sums of them are exact.
 */
export class TallyMirror extends Mirror {
  marks: number[][][][];

  constructor(bench: Bench, kv?: KvSequence, rows?: number[][][], marks?: number[][][][]) {
    super(bench, kv, rows);
    this.marks = marks ?? this.rows.map((heads) => heads.map(() => []));
  }

  override fork(): TallyMirror {
    const { kv, rows } = super.fork();
    const marks = this.marks.map((heads) => heads.map((list) => list.map((row) => [...row])));
    return new TallyMirror(this.bench, kv, rows, marks);
  }

  /** Rows of every head of a layer. */
  count(layer: number): number {
    return this.layer(layer)[0]?.length ?? 0;
  }

  override append(layer: number, tokens: readonly number[]): void {
    super.append(layer, tokens);
    const zeros = (): number[] => new Array<number>(this.bench.geometry.tallies ?? 0).fill(0);
    for (const rows of this.marks[layer] ?? []) rows.push(...tokens.map(zeros));
  }

  override compact(layer: number, kept: readonly (readonly number[])[]): void {
    super.compact(layer, kept);
    this.marks[layer] = (this.marks[layer] ?? []).map((rows, head) =>
      (kept[head] ?? []).map((row) => rows[row] ?? []),
    );
  }

  override drop(layer: number, at: number, count: number): void {
    super.drop(layer, at, count);
    for (const rows of this.marks[layer] ?? []) rows.splice(at, count);
  }

  override truncate(layer: number, count: number): void {
    super.truncate(layer, count);
    for (const rows of this.marks[layer] ?? []) rows.length = count;
  }

  /** What a decode step with eviction does: row `victims[head]` leaves each head, the newest `keep` stay in place. */
  evict(layer: number, victims: readonly number[], keep: number): void {
    const { device, stream } = this.bench;
    const rows = this.count(layer);
    const stale = rows - 1 - keep;
    using tensor = Tensor.from(device, Int32Array.from(victims), [victims.length]);
    this.kv.own(layer);
    ops.kvRemove(stream, this.kv.kv(layer), tensor, keep);
    try {
      this.kv.drop(layer, stale, 1);
    } catch (error) {
      if (!AccelError.isInstance(error) || error.code !== 'ERR_ACCEL_KV_GAP') throw error;
      // The heads have their gap elsewhere: the stale row leaves the slow way.
      const others = Array.from({ length: rows }, (_, row) => row).filter((row) => row !== stale);
      const index = Int32Array.from(victims.flatMap(() => others));
      using list = Tensor.from(device, index, [victims.length, rows - 1]);
      this.kv.compact(
        layer,
        list,
        victims.map(() => rows - 1),
      );
    }
    victims.forEach((victim, head) => {
      this.layer(layer)[head]?.splice(victim, 1);
      this.marks[layer]?.[head]?.splice(victim, 1);
    });
  }

  /** Adds to one tally of every row, or sets it. */
  mark(
    layer: number,
    tally: number,
    value: (head: number, row: number) => number,
    add: boolean,
  ): void {
    const { device, stream, geometry } = this.bench;
    const rows = this.count(layer);
    if (rows === 0) return;
    const data = Float32Array.from({ length: geometry.heads * rows }, (_, i) =>
      value(Math.floor(i / rows), i % rows),
    );
    using tensor = Tensor.from(device, data, [geometry.heads, rows]);
    this.kv.own(layer);
    if (add) ops.tallyAdd(stream, this.kv.kv(layer), tensor, tally, 'sum');
    else ops.tallyWrite(stream, this.kv.kv(layer), tensor, tally);
    this.marks[layer]?.forEach((list, head) =>
      list.forEach((row, j) => (row[tally] = (add ? (row[tally] ?? 0) : 0) + value(head, j))),
    );
  }

  override check(): () => Promise<void> {
    const rest = super.check();
    const { device, stream, geometry } = this.bench;
    const waits: (() => Promise<void>)[] = [];
    for (const [layer, marks] of this.marks.entries()) {
      const rows = this.count(layer);
      for (let tally = 0; rows > 0 && tally < (geometry.tallies ?? 0); tally++) {
        using out = Tensor.empty(device, 'float32', [geometry.heads, rows]);
        ops.tallyRead(stream, out, this.kv.kv(layer), tally);
        const want = marks.flatMap((list) => list.map((row) => row[tally]));
        const read = out.read(stream);
        waits.push(async () => {
          expect([...((await read) as Float32Array)]).toEqual(want);
        });
      }
    }
    return async () => {
      await rest();
      for (const wait of waits) await wait();
    };
  }
}
