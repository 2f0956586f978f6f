import { encodeBatch, kvBatch, ops, Tensor, type KvSequence } from '@accel/kernels';
import { describeDevices, errorWith, expectClose, generated } from '@accel/testkit';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { Bits } from '../src/settings.js';
import { KiviCache, type KiviShape } from './harness.js';
import { expected, headsOf } from './math.js';

const TOLERANCES = {
  float32: { abs: 2e-5, rel: 1e-4 },
  // Outputs are rounded, and on CUDA weights and numbers too.
  float16: { abs: 5e-3, rel: 2 ** -10 },
  bfloat16: { abs: 3e-2, rel: 2 ** -7 },
} as const;

/** What the tensor-core kernel takes: 16 bits, equal bits of keys and values, pages of a power of two bytes. */
const tensorCores = fc.record({
  kvHeads: fc.integer({ min: 1, max: 2 }),
  share: fc.integer({ min: 1, max: 8 }),
  dim: fc.constantFrom(64, 128),
  dtype: fc.constantFrom('float16', 'bfloat16'),
  bits: fc.constantFrom(2, 4, 8),
  group: fc.constantFrom(32, 64),
  /** Groups of the residual. */
  blocks: fc.integer({ min: 1, max: 2 }),
  rows: fc.integer({ min: 1, max: 500 }),
  queries: fc.oneof(fc.constant(1), fc.integer({ min: 2, max: 20 })),
  pageRows: fc.constantFrom(16, 64),
  /** Share of the channels that packed keys keep; without it there is no list. */
  left: fc.option(fc.double({ min: 0.01, max: 1, noNaN: true }), { nil: undefined }),
  seed: fc.nat({ max: 1000 }),
});

/** A share of the channels, others in each head. */
function someChannels(kvHeads: number, dim: number, share: number, seed: number): number[][] {
  return Array.from({ length: kvHeads }, (_, head) => {
    const order = generated(seed + head + 3, dim);
    return Array.from(order.keys())
      .sort((a, b) => (order[a] ?? 0) - (order[b] ?? 0))
      .slice(0, Math.ceil(share * dim))
      .sort((a, b) => a - b);
  });
}

/** `gone` of the first `rows` rows leave, others in each head. */
function leave(kivis: KiviCache, rows: number, gone: number, seed: number): void {
  const { device, kv, heads } = kivis.cache;
  const kept = Array.from({ length: heads }, (_, head) => {
    const order = generated(seed + head + 50, rows);
    return Array.from(order.keys())
      .sort((a, b) => (order[a] ?? 0) - (order[b] ?? 0))
      .slice(gone)
      .sort((a, b) => a - b);
  });
  using index = Tensor.from(device, Int32Array.from(kept.flat()), [heads, rows - gone]);
  kv.compact(
    0,
    index,
    kept.map(({ length }) => length),
  );
}

describeDevices('kivi_attention', (device) => {
  /** Packs n - m rows or more, appends the rest, and compares the attention of the last m. Gives the kernels that ran. */
  const check = async (
    shape: KiviShape,
    bits: readonly [Bits, Bits],
    group: 16 | 32 | 64,
    residual: number,
    rows: number,
    queries: number,
    seed: number,
    { window, gone = 0 }: { readonly window?: number; readonly gone?: number } = {},
  ): Promise<string[]> => {
    const { heads, kvHeads, dim, dtype = 'float32' } = shape;
    const [keyBits, valueBits] = bits;
    using kivis = new KiviCache(device, shape, { keyBits, valueBits, group, residual });
    const k = generated(seed, rows * kvHeads * dim, 2);
    const v = generated(seed + 1, rows * kvHeads * dim);
    const q = generated(seed + 2, queries * heads * dim, 2);
    const split = (rows - queries) * kvHeads * dim;
    if (split > 0) {
      kivis.append(k.subarray(0, split), v.subarray(0, split));
      if (gone > 0) leave(kivis, rows - queries, gone, seed);
      kivis.encode();
    }
    kivis.cache.append(k.subarray(split), v.subarray(split), rows - queries);
    const [keys = 0, , values = 0] = kivis.lengths;
    const got = await kivis.attend(q, window);
    const positions = await kivis.cache.positions();
    const held = headsOf(shape, k, v, [keys, values]).map((head, i) => {
      const pick = (of: number[][]): number[][] =>
        (positions[i] ?? []).map((row) => of[row] as number[]);
      const own = { positions: positions[i] ?? [] };
      return { ...head, keys: pick(head.keys), values: pick(head.values), ...own };
    });
    const want = expected(shape, q, held, kivis.layout, window);
    expectClose(got.out, want.out, TOLERANCES[dtype as 'float32'], 'out');
    expectClose(got.lse, want.lse, { abs: dtype === 'float32' ? 1e-4 : 1e-2, rel: 1e-4 }, 'lse');
    return Object.keys(kivis.cache.stream.kernels());
  };

  it.each(['float32', 'float16', 'bfloat16'] as const)(
    'agrees with attention over unpacked rows: %s',
    async (dtype) => {
      const wide = { heads: 8, kvHeads: 2, dim: 128, dtype };
      await check(wide, [2, 2], 32, 128, 500, 1, 1);
      await check(wide, [4, 4], 64, 64, 333, 1, 2);
      await check(wide, [8, 2], 32, 32, 200, 5, 3);
      await check(wide, [8, 8], 32, 64, 260, 3, 6);
      await check({ heads: 4, kvHeads: 4, dim: 64, dtype }, [2, 4], 32, 32, 300, 1, 4);
      await check({ heads: 6, kvHeads: 2, dim: 64, dtype }, [4, 8], 16, 32, 100, 17, 5);
    },
  );

  it('agrees for any sizes', { timeout: 60_000 }, async () => {
    const cases = fc.record({
      kvHeads: fc.integer({ min: 1, max: 3 }),
      share: fc.integer({ min: 1, max: 5 }),
      steps: fc.integer({ min: 1, max: 6 }),
      bits: fc.tuple(fc.constantFrom(2, 4, 8), fc.constantFrom(2, 4, 8)),
      blocks: fc.integer({ min: 1, max: 4 }),
      rows: fc.integer({ min: 1, max: 150 }),
      queries: fc.integer({ min: 1, max: 20 }),
      seed: fc.nat({ max: 1000 }),
    });
    await fc.assert(
      fc.asyncProperty(
        cases,
        async ({ kvHeads, share, steps, bits, blocks, rows, queries, seed }) => {
          const shape = { heads: kvHeads * share, kvHeads, dim: 16 * steps };
          await check(shape, bits, 16, 16 * blocks, Math.max(rows, queries), queries, seed);
        },
      ),
      { numRuns: 80 },
    );
  });

  it('agrees on the tensor-core kernel, wherever that one can run', { timeout: 120_000 }, () =>
    fc.assert(
      fc.asyncProperty(tensorCores, async (given) => {
        const { kvHeads, share, dim, dtype, bits, group, blocks, left, seed } = given;
        const { pageRows, queries } = given;
        const rows = Math.max(given.rows, queries);
        const shape: KiviShape = {
          heads: kvHeads * share,
          kvHeads,
          dim,
          dtype,
          pageBytes: 2 * pageRows * dim,
          kept: left === undefined ? undefined : someChannels(kvHeads, dim, left, seed),
        };
        const ran = await check(shape, [bits, bits], group, group * blocks, rows, queries, seed);
        expect(ran).toContain('kivi_attention');
        expect(ran).not.toContain('kivi_attention_reference');
      }),
      { numRuns: 20 },
    ),
  );

  it('sees a sliding window of positions, also where rows have left', { timeout: 120_000 }, () =>
    fc.assert(
      fc.asyncProperty(
        tensorCores,
        fc.constantFrom('float32', 'as drawn'),
        fc.oneof(fc.constantFrom(1, 2, 128, 100_000), fc.integer({ min: 1, max: 600 })),
        fc.double({ min: 0, max: 1, noNaN: true }),
        async (given, format, window, share) => {
          const { kvHeads, share: group, dim, bits, blocks, left, seed, pageRows, queries } = given;
          const dtype = format === 'float32' ? format : given.dtype;
          const rows = Math.max(given.rows, queries);
          const shape: KiviShape = {
            heads: kvHeads * group,
            kvHeads,
            dim,
            dtype,
            positions: 'stored',
            pageBytes: (dtype === 'float32' ? 4 : 2) * pageRows * dim,
            kept: left === undefined ? undefined : someChannels(kvHeads, dim, left, seed),
          };
          // A list of channels is made before rows could leave.
          const most = left === undefined ? Math.max(0, rows - queries - 1) : 0;
          const gone = Math.round(share * most);
          const more = { window, gone };
          await check(
            shape,
            [bits, bits],
            given.group,
            given.group * blocks,
            rows,
            queries,
            seed,
            more,
          );
        },
      ),
      { numRuns: 40 },
    ),
  );

  it('sees a sliding window over parts of a long cache', async () => {
    const shape = { heads: 4, kvHeads: 1, dim: 32, positions: 'stored' } as const;
    for (const window of [1, 700, 1100, 2400])
      await check(shape, [2, 2], 32, 128, 3100, 1, 7, { window, gone: 500 });
    await check(shape, [4, 4], 32, 128, 2500, 9, 8, { window: 1300 });
  });

  it('joins parts of a long cache', async () => {
    await check({ heads: 4, kvHeads: 1, dim: 32 }, [2, 2], 32, 128, 3100, 1, 7);
    await check({ heads: 4, kvHeads: 1, dim: 32 }, [4, 4], 32, 128, 2500, 9, 8);
    // More query heads on one kv head than a block has rows.
    await check({ heads: 40, kvHeads: 1, dim: 32 }, [4, 2], 32, 64, 1300, 2, 9);
  });

  it.each([128, 192, 320])(
    'reads items that lie in several pages of %i bytes',
    async (pageBytes) => {
      await check({ heads: 2, kvHeads: 1, dim: 32, pageBytes }, [8, 4], 32, 32, 170, 3, 10);
      await check({ heads: 2, kvHeads: 1, dim: 16, pageBytes }, [2, 2], 16, 16, 170, 1, 11);
    },
  );

  it('serves heads that hold different rows', async () => {
    const shape = { heads: 4, kvHeads: 2, dim: 32, positions: 'stored' } as const;
    using kivis = new KiviCache(device, shape, { bits: 4, residual: 32 });
    const rows = 150;
    const [k, v] = [generated(12, rows * 64, 2), generated(13, rows * 64)];
    const q = generated(14, 2 * 4 * 32, 2);
    kivis.append(k, v);
    // Head 0 keeps two rows of three, head 1 the last 40.
    const kept = [
      Array.from({ length: rows }, (_, i) => i).filter((i) => i % 3 !== 1),
      Array.from({ length: 40 }, (_, i) => rows - 40 + i),
    ];
    const counts = kept.map((of) => of.length);
    const most = Math.max(...counts);
    const { cache } = kivis;
    const padded = kept.flatMap((of) => [...of, ...new Array<number>(most - of.length).fill(0)]);
    using index = Tensor.from(cache.device, Int32Array.from(padded), [2, most]);
    cache.kv.compact(0, index, counts);
    kivis.encode();
    const heads = headsOf(shape, k, v, [0, 0]).map((head, i) => {
      const { keys, values } = cache.kv.encodedRows(0, i);
      const pick = <T>(of: readonly T[]): T[] => (kept[i] ?? []).map((row) => of[row] as T);
      return {
        keys: pick(head.keys),
        values: pick(head.values),
        packed: [keys, values] as const,
      };
    });
    expect(heads.map(({ packed }) => packed)).toEqual([
      [96, 68],
      [32, 8],
    ]);
    const got = await kivis.attend(q);
    const want = expected(shape, q, heads, kivis.layout);
    expectClose(got.out, want.out, TOLERANCES.float32, 'out');
    expectClose(got.lse, want.lse, { abs: 1e-4, rel: 1e-4 }, 'lse');
  });

  it.each(['float32', 'bfloat16'] as const)(
    'gives a batch the bits of its rows alone: %s',
    async (dtype) => {
      const shape = { heads: 4, kvHeads: 2, dim: 64, dtype };
      using kivis = new KiviCache(device, shape, { bits: 2, residual: 32 });
      const { cache, format } = kivis;
      const { stream } = cache;
      const width = shape.kvHeads * shape.dim;
      const lengths = [3, 40, 129, 1500];
      const lens = [1, 1, 4, 1];
      const sequences = lengths.map(() => cache.kv.fork());
      const append = (kv: KvSequence, rows: number, seed: number): void => {
        const of = [rows, shape.kvHeads, shape.dim];
        using k = cache.floats(generated(seed, rows * width, 2), of);
        using v = cache.floats(generated(seed + 1, rows * width), of);
        using positions = Tensor.from(cache.device, new Int32Array(rows), [rows]);
        kv.reserve(0, rows);
        ops.kvAppend(stream, kv.kv(0), k, v, positions, Int32Array.of(rows));
      };
      const attend = async (batch: readonly KvSequence[], counts: number[]): Promise<number[]> => {
        const total = counts.reduce((a, b) => a + b, 0);
        // Sequence i has queries of its own wherever it is in the batch.
        const q = batch.flatMap((kv, i) => [
          ...generated(900 + sequences.indexOf(kv), (counts[i] ?? 0) * shape.heads * shape.dim, 2),
        ]);
        using query = cache.floats(Float32Array.from(q), [total, shape.heads, shape.dim]);
        using out = cache.empty([total, shape.heads, shape.dim]);
        using lse = Tensor.empty(cache.device, 'float32', [total, shape.heads]);
        const scale = 1 / Math.sqrt(shape.dim);
        const kv = kvBatch(batch, 0);
        const lens = Int32Array.from(counts);
        format.attend({ stream, out, lse, q: query, kv, lens, scale, window: 0 });
        const read = [
          (await out.read(stream)) as Float32Array,
          (await lse.read(stream)) as Float32Array,
        ];
        return [...(read[0] ?? []), ...(read[1] ?? [])];
      };
      try {
        for (const [i, kv] of sequences.entries()) append(kv, lengths[i] ?? 0, 20 + 2 * i);
        // One call packs for all of them.
        encodeBatch(sequences, 0, format.rules, (kv, most) => {
          format.encode({ stream, kv, keys: most, values: most });
        });
        expect(sequences.map((kv) => kv.encodedRows(0, 1))).toEqual([
          { keys: 0, values: 0 },
          { keys: 32, values: 8 },
          { keys: 128, values: 97 },
          { keys: 1472, values: 1468 },
        ]);
        const together = await attend(sequences, lens);
        const queries = lens.reduce((a, b) => a + b, 0);
        const outputs = queries * shape.heads * shape.dim;
        let at = 0;
        for (const [i, kv] of sequences.entries()) {
          const count = lens[i] ?? 0;
          const alone = await attend([kv], [count]);
          const own = count * shape.heads * shape.dim;
          const from = at * shape.heads * shape.dim;
          expect(together.slice(from, from + own)).toEqual(alone.slice(0, own));
          const lse = outputs + at * shape.heads;
          expect(together.slice(lse, lse + count * shape.heads)).toEqual(alone.slice(own));
          at += count;
        }
      } finally {
        for (const kv of sequences) kv.dispose();
      }
    },
  );

  it('refuses tensors that do not fit', () => {
    using kivis = new KiviCache(device, { heads: 2, kvHeads: 2, dim: 32 }, { residual: 32 });
    const { cache, format } = kivis;
    kivis.append(new Float32Array(64), new Float32Array(64));
    const call = (shape: number[], lens: number[], outShape = shape, window = 0): (() => void) => {
      return () => {
        using q = cache.empty(shape);
        using out = cache.empty(outShape);
        const { stream, kv } = cache;
        const more = { lens: Int32Array.from(lens), scale: 1, window };
        format.attend({ stream, out, lse: null, q, kv: kv.kv(0), ...more });
      };
    };
    expect(call([1, 3, 32], [1])).toThrow(errorWith('ERR_ACCEL_SHAPE', 'multiple'));
    expect(call([1, 2, 32], [1], [1, 4, 32])).toThrow(errorWith('ERR_ACCEL_SHAPE'));
    expect(call([1, 2, 32], [1], [1, 2, 32], -1)).toThrow(
      errorWith('ERR_ACCEL_ARGUMENT', 'window'),
    );
    expect(call([2, 2, 32], [2])).toThrow(errorWith('ERR_ACCEL_ARGUMENT', 'rows'));
    expect(call([1, 2, 32], [1, 0])).toThrow(errorWith('ERR_ACCEL_SHAPE', 'lens'));
  });
});
