import { describeDevices, generated } from '@accel/testkit';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { referenceKept, type ReferenceRow } from '../src/reference.js';
import { H2oHarness } from './harness.js';

const DIM = 8;

describeDevices('H2O on any stream', (device) => {
  it('keeps its budget, its newest rows and the best of the others, whatever comes in what turns', async () => {
    const streams = fc.record({
      kvHeads: fc.constantFrom(1, 2),
      group: fc.constantFrom(1, 3),
      budget: fc.integer({ min: 1, max: 24 }),
      share: fc.double({ min: 0, max: 1, noNaN: true }),
      turns: fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1, maxLength: 8 }),
      seed: fc.integer({ min: 1, max: 1_000_000 }),
    });
    await fc.assert(
      fc.asyncProperty(streams, async ({ kvHeads, group, budget, share, turns, seed }) => {
        const heads = kvHeads * group;
        const recent = Math.round(share * budget);
        const options = { budget: { tokens: budget }, recent };
        using harness = new H2oHarness(device, { heads, kvHeads, dim: DIM }, options);
        let before: ReferenceRow[][] = Array.from({ length: kvHeads }, () => []);
        for (const [turn, m] of turns.entries()) {
          const part = (count: number, i: number): Float32Array =>
            generated(seed + 7 * turn + i, m * count * DIM, 3);
          await harness.forward(part(heads, 0), part(kvHeads, 1), part(kvHeads, 2));
          const positions = await harness.cache.positions();
          const all = (await harness.scores()).map((scores, head) =>
            scores.map((score, row) => ({ position: positions[head]?.[row] ?? -1, score })),
          );
          for (const [head, rows] of all.entries()) {
            // Every query spent one unit of attention on the rows there were.
            const received = rows.reduce((sum, { score }) => sum + score, 0);
            const held = (before[head] ?? []).reduce((sum, { score }) => sum + score, 0);
            expect(received - held).toBeCloseTo(m, 3);
          }
          harness.end();
          const kept = await harness.cache.positions();
          const want = all.map((rows) => referenceKept(rows, budget, recent));
          expect(kept).toEqual(want.map((rows) => rows.map(({ position }) => position)));
          const scores = await harness.scores();
          // Survivors keep their scores to the bit.
          expect(scores).toEqual(want.map((rows) => rows.map(({ score }) => score)));
          for (const rows of kept) {
            expect(rows).toHaveLength(Math.min(budget, positions[0]?.length ?? 0));
            const newest = Math.min(recent, rows.length);
            const last = Array.from({ length: newest }, (_, i) => harness.seen - newest + i);
            expect(rows.slice(rows.length - newest)).toEqual(last);
          }
          before = want;
        }
      }),
      { numRuns: 60 },
    );
  });

  it('obeys a budget part while decoding, also one that is smaller than the window', async () => {
    const shape = { heads: 2, kvHeads: 2, dim: DIM };
    using harness = new H2oHarness(device, shape, { budget: { tokens: 20 }, recent: 10 });
    const token = (m: number): Float32Array => generated(harness.seen + 1, m * 2 * DIM, 3);
    const forward = async (m: number): Promise<void> => {
      await harness.forward(token(m), token(m), token(m));
      harness.end();
    };
    await forward(30);
    expect(harness.rows).toBe(20);
    harness.budget = 14;
    await forward(1);
    // More than one row too many: the best stay, as after a prompt.
    expect(harness.rows).toBe(14);
    await forward(1);
    expect(harness.rows).toBe(14);
    harness.budget = 6;
    for (let step = 0; step < 8; step++) await forward(1);
    expect(harness.rows).toBe(6);
    for (const rows of await harness.cache.positions())
      expect(rows).toEqual([34, 35, 36, 37, 38, 39]);
    harness.budget = 9;
    for (let step = 0; step < 5; step++) await forward(1);
    expect(harness.rows).toBe(9);
  });

  it('shows the row that leaves to a merge part first', async () => {
    const shape = { heads: 1, kvHeads: 1, dim: DIM };
    using harness = new H2oHarness(device, shape, { budget: { tokens: 5 }, recent: 2 });
    const seen: number[] = [];
    harness.merge = (victim) => {
      expect(typeof victim).toBe('object');
      seen.push(harness.rows);
    };
    for (const m of [9, 1, 1]) {
      const part = generated(harness.seen + 1, m * DIM, 3);
      await harness.forward(part, part, part);
      harness.end();
    }
    expect(seen).toEqual([6, 6]);
    expect(harness.reports.at(-1)).toEqual({ rowsIn: 6, rowsKept: 5 });
  });

  it('says that rows which leave several at a time were not merged', async () => {
    const shape = { heads: 1, kvHeads: 1, dim: DIM };
    using harness = new H2oHarness(device, shape, { budget: { tokens: 5 }, recent: 2 });
    harness.merge = () => expect.fail('several rows leave');
    for (const m of [9, 1]) {
      // The prompt leaves 5 rows; a budget part's 4 make the step too many by two.
      harness.budget = m === 1 ? 4 : undefined;
      const part = generated(harness.seen + 1, m * DIM, 3);
      await harness.forward(part, part, part);
      harness.end();
    }
    expect(harness.rows).toBe(4);
    expect(harness.reports.at(-1)?.note).toMatch(/not merged/);
  });
});
