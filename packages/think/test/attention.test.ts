import { kvBatch, ops, Tensor } from '@accel/kernels';
import { describeDevices, expectClose, readFloats } from '@accel/testkit';
import { describe, expect, it } from 'vitest';
import { thinkAttention } from '../src/ops.js';
import { referenceAttention } from '../src/reference.js';
import { ThinkHarness } from './harness.js';
import { EXACT, exact, pruned, rowOf, type Given } from './pruned.js';

describeDevices('think_attention', (device) => {
  const base: Given = {
    heads: 8,
    kvHeads: 2,
    dim: 128,
    dtype: 'bfloat16',
    rows: 300,
    recent: 32,
    ratio: 0.4,
    m: 1,
    pageRows: 16,
    seed: 11,
  };

  describe.each(['float32', 'bfloat16', 'float16'] as const)('in %s', (dtype) => {
    it('reads heads with different numbers of rows', async () => {
      const given: Given = { ...base, dtype, rows: 200, ratio: 0.5 };
      const { heads, kvHeads, dim } = given;
      using harness = new ThinkHarness(device, given, { ratio: 0.5, recent: 32 });
      const { kv, stream } = harness.cache;
      const k = exact(5, 200 * kvHeads * dim, 2);
      const v = exact(6, 200 * kvHeads * dim);
      harness.cache.append(k, v, 0);
      harness.observe(exact(7, 8 * heads * dim));
      // The second head keeps so few rows that none is pruned.
      const counts = [173, 20];
      const index = Int32Array.from({ length: 2 * 173 }, (_, i) => (i < 173 ? i : 3 * (i - 173)));
      using kept = Tensor.from(harness.cache.device, index, [2, 173]);
      kv.compact(0, kept, counts);
      harness.prune();
      expect(harness.pruned()).toEqual([141, 0]);
      const { channels } = await harness.stored();
      const q = exact(8, heads * dim);
      const { out } = await harness.attend(q, 0.2);
      const want = Array.from({ length: heads }, (_, head) => {
        const kvHead = Math.floor(head / 4);
        const rows = Array.from({ length: counts[kvHead] ?? 0 }, (_, i) =>
          kvHead === 0 ? i : 3 * i,
        );
        const all = (data: Float32Array): number[][] =>
          rows.map((row) => rowOf(data, kvHeads, dim, row, kvHead));
        const state = {
          keys: all(k),
          values: all(v),
          pruned: harness.pruned()[kvHead] ?? 0,
          channels: channels[kvHead] ?? [],
        };
        return referenceAttention(rowOf(q, heads, dim, 0, head), state, rows.length, 0.2).out;
      });
      expectClose(out, want.flat(), { abs: EXACT[dtype] ?? 0, rel: 0 }, 'outputs');
      await stream.synchronize();
    });

    it('gives each sequence of a batch what it gets alone', async () => {
      const all = [
        { ...base, dtype, rows: 40, recent: 32, m: 1 },
        { ...base, dtype, rows: 1500, recent: 32, m: 3, seed: 21 },
        { ...base, dtype, rows: 20, recent: 32, m: 2, seed: 31 },
        { ...base, dtype, rows: 333, recent: 32, m: 1, seed: 41 },
      ];
      const { heads, kvHeads, dim } = base;
      // Caches of one call share a pool.
      using first = new ThinkHarness(device, { heads, kvHeads, dim, dtype }, { recent: 32 });
      const { cache, channels: state, format, kept } = first;
      const { stream, kv } = cache;
      const alone: number[] = [];
      const parts: Float32Array[] = [];
      const caches = all.map(({ rows, seed }) => {
        const own = kv.fork();
        const shape = [rows, kvHeads, dim];
        using keys = cache.floats(exact(seed, rows * kvHeads * dim, 2), shape);
        using values = cache.floats(exact(seed + 1, rows * kvHeads * dim), shape);
        using where = Tensor.from(
          cache.device,
          Int32Array.from({ length: rows }, (_, i) => i),
          [rows],
        );
        own.reserve(0, rows);
        ops.kvAppend(stream, own.kv(0), keys, values, where, Int32Array.of(rows));
        first.observe(exact(seed + 2, 8 * heads * dim));
        own.encode(0, format.rules, (args, most) => {
          state.choose({ layer: 0, stream, kv: args, rows });
          if (most > 0) format.encode({ stream, kv: args, keys: most, values: most });
        });
        return own;
      });
      try {
        for (const [i, { m, seed }] of all.entries()) {
          const q = exact(seed + 3, m * heads * dim);
          parts.push(q);
          using query = cache.floats(q, [m, heads, dim]);
          using out = cache.empty([m, heads, dim]);
          const own = caches[i];
          if (own === undefined) throw new Error('there is a cache for each');
          const lens = Int32Array.of(m);
          format.attend({
            stream,
            out,
            lse: null,
            q: query,
            kv: own.kv(0),
            lens,
            scale: 0.1,
            window: 0,
          });
          alone.push(...(await readFloats(out, stream)));
        }
        const lens = Int32Array.from(all, ({ m }) => m);
        const tokens = lens.reduce((sum, m) => sum + m, 0);
        using query = cache.floats(Float32Array.from(parts.flatMap((part) => [...part])), [
          tokens,
          heads,
          dim,
        ]);
        using out = cache.empty([tokens, heads, dim]);
        const args = kvBatch(caches, 0);
        const call = { stream, out, lse: null, q: query, kv: args, lens, scale: 0.1, window: 0 };
        thinkAttention(call, kept);
        const got = await readFloats(out, stream);
        // On a GPU the shares of blocks, and so the order of sums, differ.
        if (device === 'cpu') expect([...got]).toEqual(alone);
        else expectClose(got, alone, { abs: (EXACT[dtype] ?? 0) / 2, rel: 0 }, 'outputs');
      } finally {
        for (const own of caches) own.dispose();
      }
    });

    it.each([
      { heads: 8, kvHeads: 1, m: 60 },
      { heads: 6, kvHeads: 2, m: 90 },
      { heads: 40, kvHeads: 1, m: 1 },
    ])('takes many rows of queries: $heads heads of $kvHeads, $m queries', async (given) => {
      const all: Given = { ...base, dtype, ...given, dim: 64, rows: 170 };
      const { heads, dim, m, rows } = all;
      const { harness, q } = pruned(device, all);
      try {
        const whole = await harness.attend(q);
        // A query alone sees the same, when the rows after it are not there.
        const { kv } = harness.cache;
        for (const i of [m - 1, Math.floor(m / 2), 0]) {
          if (rows - m + i + 1 < (harness.pruned()[0] ?? 0)) break;
          kv.truncate(0, rows - m + i + 1);
          const alone = await harness.attend(q.subarray(i * heads * dim, (i + 1) * heads * dim));
          const want = whole.out.subarray(i * heads * dim, (i + 1) * heads * dim);
          expectClose(alone.out, want, { abs: EXACT[dtype] ?? 0, rel: 0 }, `query ${i}`);
        }
      } finally {
        harness.dispose();
      }
    });
  });
});
