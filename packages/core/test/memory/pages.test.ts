import { Device, KvSequence, PagePool, Tensor, type KvShape, type Stream } from '@accel/kernels';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { NO_ROWS, PageCounter, type HeadRows } from '../../src/memory/pages.js';

// What the page counter says of a head is what a cache of the kernels holds, whatever was done to it.

const HEADS = 2;
const device = Device.open('cpu');
let stream: Stream;
beforeAll(() => {
  stream = device.createStream();
});
afterAll(() => stream.dispose());

/** A cache and what is expected of each of its heads. */
class Both {
  readonly pool: PagePool;
  readonly kv: KvSequence;
  readonly pages: PageCounter;
  head: HeadRows = NO_ROWS;

  constructor(shape: KvShape, pageBytes: number) {
    this.pool = new PagePool(stream, { pageBytes, capacityBytes: 2 ** 24 });
    this.kv = new KvSequence(this.pool, shape);
    this.pages = new PageCounter(shape, pageBytes);
  }

  reserve(rows: number): void {
    this.kv.reserve(0, rows);
    this.head = { ...this.head, rows: this.head.rows + rows };
  }

  gather(rows: number): void {
    const index = Int32Array.from({ length: HEADS * rows }, (_, i) => i % rows);
    using kept = Tensor.from(device, index, [HEADS, rows]);
    this.kv.compact(0, kept, [rows, rows]);
    this.head = { ...NO_ROWS, rows };
  }

  drop(at: number, count: number): void {
    this.kv.drop(0, at, count);
    const { rows, gap } = this.head;
    this.head = { ...this.head, rows: rows - count, gap: gap + count, gapAt: at };
  }

  encode(block: number, keep: number): void {
    const rule = { block, keep };
    this.kv.encode(0, { keys: rule, values: rule }, () => undefined);
    const target = Math.floor(Math.max(0, this.head.rows - keep) / block) * block;
    const [encodedKeys, encodedValues] = [target, target];
    const [plainKeys, plainValues] = [target, target];
    this.head = { ...this.head, opened: true, encodedKeys, encodedValues, plainKeys, plainValues };
  }

  check(): void {
    expect(HEADS * this.pages.of(this.head)).toBe(this.kv.bytes().pages);
  }

  dispose(): void {
    this.kv.dispose();
    this.pool.dispose();
  }
}

const geometry = fc.record({
  headDim: fc.constantFrom(16, 32, 64),
  tallies: fc.integer({ min: 0, max: 3 }),
  // Pages that hold rows and records, of which the numbers on a page may have no common divisor.
  pageBytes: fc.constantFrom(256, 320, 448, 1024),
});

describe('a page counter', () => {
  it('counts rows that come, are gathered and leave in place', async () => {
    await fc.assert(
      fc.asyncProperty(
        geometry,
        fc.integer({ min: 1, max: 200 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.integer({ min: 0, max: 9 }),
        fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 12 }),
        async ({ pageBytes, ...shape }, rows, share, recent, counts) => {
          const both = new Both({ layers: 1, heads: HEADS, dtype: 'float32', ...shape }, pageBytes);
          both.reserve(rows);
          both.check();
          both.gather(Math.max(1, Math.round(share * rows)));
          both.check();
          const at = Math.max(0, both.head.rows - recent - 1);
          for (const count of counts) {
            both.reserve(count);
            both.check();
            if (at + count >= both.head.rows) break;
            both.drop(at, count);
            both.check();
          }
          await stream.synchronize();
          both.dispose();
        },
      ),
      { numRuns: 200 },
    );
  });

  it('counts rows of which a codec holds the oldest', async () => {
    await fc.assert(
      fc.asyncProperty(
        geometry,
        fc.record({
          rows: fc.constantFrom(4, 16),
          bytes: fc.integer({ min: 1, max: 40 }).map((n) => 16 * n),
          header: fc.constantFrom(0, 16, 512),
        }),
        fc.integer({ min: 0, max: 50 }),
        fc.array(fc.integer({ min: 1, max: 70 }), { minLength: 1, maxLength: 8 }),
        async ({ pageBytes, ...shape }, items, keep, counts) => {
          const encoded = { keys: items, values: { ...items, header: 0 } };
          const both = new Both(
            { layers: 1, heads: HEADS, dtype: 'float32', encoded, ...shape },
            pageBytes,
          );
          for (const count of counts) {
            both.reserve(count);
            both.check();
            both.encode(items.rows, keep);
            both.check();
          }
          await stream.synchronize();
          both.dispose();
        },
      ),
      { numRuns: 200 },
    );
  });
});
