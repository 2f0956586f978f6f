import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Stream } from '@accel/kernels';
import { planChunks, planTailChunks, type Chunk } from '../../src/engine/chunks.js';
import { findFallbacks } from '../../src/engine/fallbacks.js';
import { Lock } from '../../src/engine/lock.js';
import { StopMatcher } from '../../src/engine/stop.js';

const lengths = fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 6 });

function covered(chunks: readonly Chunk[]): number[] {
  return chunks.flatMap(({ pieces }) =>
    pieces.flatMap(({ begin, end }) => Array.from({ length: end - begin }, (_, i) => begin + i)),
  );
}

describe('chunks', () => {
  test('cover every row once, in order, within the limit', () => {
    fc.assert(
      fc.property(lengths, fc.integer({ min: 1, max: 40 }), (list, limit) => {
        const chunks = planChunks(list, limit);
        const total = list.reduce((sum, length) => sum + length, 0);
        expect(covered(chunks)).toEqual(Array.from({ length: total }, (_, row) => row));
        for (const { begin, end, work } of chunks) {
          expect(end - begin).toBeLessThanOrEqual(limit);
          expect(work).toBe('all');
        }
      }),
    );
  });

  test('of the last layer compute exactly the tails, and attention where it is counted', () => {
    fc.assert(
      fc.property(
        lengths,
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 1, max: 20 }),
        (list, limit, tail) => {
          const chunks = planTailChunks(
            list,
            list.map(() => tail),
            list.map((_, item) => item % 2 === 0),
            limit,
          );
          const outputs = chunks.filter(({ work }) => work === 'all');
          const wanted: number[] = [];
          let end = 0;
          for (const length of list) {
            end += length;
            for (let row = Math.max(end - tail, end - length); row < end; row++) wanted.push(row);
          }
          expect(covered(outputs)).toEqual(wanted);
          expect(covered(chunks).length).toBe(end);
          for (const { work, pieces } of chunks)
            for (const { item } of pieces)
              if (work !== 'all') expect(work).toBe(item % 2 === 0 ? 'attention' : 'rows');
          for (const { pieces } of chunks)
            for (const { begin, end: stop, offset } of pieces)
              expect(offset).toBeLessThan(offset + stop - begin);
        },
      ),
    );
  });
});

test('the lock keeps order and survives failures', async () => {
  const lock = new Lock();
  const order: number[] = [];
  const slow = lock.run(async () => {
    await new Promise((resolve) => setTimeout(resolve, 10));
    order.push(1);
  });
  const bad = lock.run(() => {
    order.push(2);
    throw new Error('no');
  });
  const last = lock.run(() => order.push(3));
  await expect(bad).rejects.toThrow('no');
  await Promise.all([slow, last]);
  expect(order).toEqual([1, 2, 3]);
});

test('kernels that ran for want of a faster one are fallbacks, those of a format too', () => {
  const stream = (kind: string) => ({ device: { kind }, graphs: () => ({}) }) as unknown as Stream;
  const ran = { attend_plainly: 2, gemm_simt: 1, attention: 5 };
  const slow = { attend_plainly: 'it was slow' };
  expect(findFallbacks(stream('cuda'), 'bfloat16', ran, 4, slow)).toEqual([
    expect.stringContaining('plain kernel'),
    'it was slow',
  ]);
  expect(findFallbacks(stream('cuda'), 'bfloat16', { attention: 5 }, 4, slow)).toEqual([]);
  expect(findFallbacks(stream('cuda'), 'float32', ran, 4, slow)).toEqual([]);
  expect(findFallbacks(stream('cpu'), 'bfloat16', ran, 4, slow)).toEqual([]);
});

describe('stop strings', () => {
  const feed = (stops: string[], parts: string[]): { text: string; stopped: boolean } => {
    const matcher = new StopMatcher(stops);
    let text = '';
    for (const part of parts) {
      const step = matcher.push(part);
      text += step.text;
      if (step.stopped) return { text, stopped: true };
    }
    return { text: text + matcher.flush(), stopped: false };
  };

  test('split over pieces, overlapping, at the very end', () => {
    expect(feed(['END'], ['abE', 'N', 'Dxyz'])).toEqual({ text: 'ab', stopped: true });
    expect(feed(['aab'], ['aa', 'aab'])).toEqual({ text: 'aa', stopped: true });
    expect(feed(['END'], ['abEN'])).toEqual({ text: 'abEN', stopped: false });
    expect(feed(['', 'x'], ['ab', 'cx'])).toEqual({ text: 'abc', stopped: true });
  });

  test('any split gives the same text', () => {
    const letters = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 20 });
    fc.assert(
      fc.property(
        letters,
        fc.string({ unit: fc.constantFrom('a', 'b'), minLength: 1, maxLength: 3 }),
        fc.array(fc.nat(20)),
        (text, stop, cuts) => {
          const at = [
            ...new Set([0, ...cuts.filter((cut) => cut < text.length), text.length]),
          ].sort((a, b) => a - b);
          const parts = at.slice(1).map((to, i) => text.slice(at[i], to));
          expect(feed([stop], parts)).toEqual(feed([stop], [text]));
        },
      ),
    );
  });
});
