import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type AccelErrorCode,
  Device,
  KvSequence,
  kvBatch,
  ops,
  PagePool,
  Tensor,
  type DType,
} from '../ts/index.js';
import { describeDevices } from './support/devices.js';
import { expectRejection } from './support/errors.js';

const BLOCK = 128;

/** Deterministic numbers, multiples of 1/64 in [-1, 1): exact in every format. */
function numbers(count: number, seed: number): Float32Array {
  let state = seed >>> 0;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 25) / 64 - 1;
  });
}

interface Sequence {
  /** Rows before the queries, in blocks. */
  readonly prefix: number;
  readonly queries: number;
}
interface Problem {
  readonly kvHeads: number;
  readonly group: number;
  readonly dim: number;
  readonly sequences: readonly Sequence[];
  readonly seed: number;
  /** Share of blocks that are visible. */
  readonly density: number;
}

const rowsOf = ({ prefix, queries }: Sequence): number => prefix * BLOCK + queries;
const blocksOf = (count: number): number => Math.ceil(count / BLOCK);

/** Everything an attention call needs, on a device. */
class Setup implements Disposable {
  readonly device: Device;
  readonly stream;
  readonly pool: PagePool;
  readonly caches: KvSequence[] = [];
  readonly host: { k: Float32Array; v: Float32Array }[] = [];
  readonly q: Float32Array;
  readonly lens: Int32Array;
  readonly heads: number;
  readonly words: number;
  readonly mask: Int32Array;
  readonly dtype: DType;
  readonly problem: Problem;

  constructor(id: string, problem: Problem, dtype: DType) {
    const { kvHeads, group, dim, sequences, seed, density } = problem;
    this.problem = problem;
    this.dtype = dtype;
    this.device = Device.open(id);
    this.stream = this.device.createStream();
    const bytes = dtype === 'float32' ? 4 : 2;
    this.pool = new PagePool(this.stream, { pageBytes: 16 * dim * bytes, capacityBytes: 1 << 25 });
    this.heads = kvHeads * group;
    this.lens = Int32Array.from(sequences, ({ queries }) => queries);
    for (const [b, sequence] of sequences.entries()) this.#fill(rowsOf(sequence), seed + 10 * b);
    const total = this.lens.reduce((sum, len) => sum + len, 0);
    this.q = numbers(total * this.heads * dim, seed + 7);
    const columns = Math.max(...sequences.map((sequence) => blocksOf(rowsOf(sequence))));
    this.words = Math.ceil(columns / 32);
    const rowBlocks = this.lens.reduce((sum, len) => sum + blocksOf(len), 0);
    const chance = numbers(rowBlocks * this.heads * this.words * 32, seed + 8);
    this.mask = new Int32Array(rowBlocks * this.heads * this.words);
    for (const [bit, x] of chance.entries()) {
      if (x < 2 * density - 1) this.mask[bit >> 5] = (this.mask[bit >> 5] ?? 0) | (1 << (bit & 31));
    }
  }

  #fill(rows: number, seed: number): void {
    const { kvHeads, dim } = this.problem;
    const cache = new KvSequence(this.pool, {
      layers: 1,
      heads: kvHeads,
      headDim: dim,
      dtype: this.dtype,
    });
    this.caches.push(cache);
    const k = numbers(rows * kvHeads * dim, seed + 1);
    const v = numbers(rows * kvHeads * dim, seed + 2);
    this.host.push({ k, v });
    using keys = Tensor.from(this.device, k, [rows, kvHeads, dim], this.dtype);
    using values = Tensor.from(this.device, v, [rows, kvHeads, dim], this.dtype);
    using where = Tensor.from(
      this.device,
      Int32Array.from({ length: rows }, (_, i) => i),
      [rows],
    );
    cache.reserve(0, rows);
    ops.kvAppend(this.stream, cache.kv(0), keys, values, where, Int32Array.of(rows));
  }

  kv() {
    return kvBatch(this.caches, 0);
  }

  get scale(): number {
    return 1 / Math.sqrt(this.problem.dim);
  }

  query(): Tensor {
    const { dim } = this.problem;
    return Tensor.from(
      this.device,
      this.q,
      [this.q.length / (this.heads * dim), this.heads, dim],
      this.dtype,
    );
  }

  async run(mask: Int32Array) {
    const { heads, words, stream, device, lens, scale } = this;
    using q = this.query();
    using out = Tensor.empty(device, this.dtype, q.shape);
    using lse = Tensor.empty(device, 'float32', [q.shape[0] ?? 0, heads]);
    using bits = Tensor.from(device, mask, [mask.length / (heads * words), heads, words]);
    using counts = Tensor.from(device, new Int32Array(lens.length * heads), [lens.length, heads]);
    ops.blockSparseAttention(stream, out, lse, q, this.kv(), lens, { scale, mask: bits, counts });
    using wide = Tensor.empty(device, 'float32', q.shape);
    ops.cast(stream, wide, out);
    return {
      out: (await wide.read(stream)) as Float32Array,
      lse: (await lse.read(stream)) as Float32Array,
      counts: (await counts.read(stream)) as Int32Array,
    };
  }

  async dense() {
    using q = this.query();
    using out = Tensor.empty(this.device, this.dtype, q.shape);
    using lse = Tensor.empty(this.device, 'float32', [q.shape[0] ?? 0, this.heads]);
    const options = { scale: this.scale, causal: true };
    ops.attention(this.stream, out, lse, q, this.kv(), this.lens, options);
    using wide = Tensor.empty(this.device, 'float32', q.shape);
    ops.cast(this.stream, wide, out);
    return {
      out: (await wide.read(this.stream)) as Float32Array,
      lse: (await lse.read(this.stream)) as Float32Array,
    };
  }

  /** What each row of the first sequence receives, by query head. */
  columns(mask: Int32Array): number[][] {
    const [first] = this.problem.sequences;
    const rows = first === undefined ? 0 : rowsOf(first);
    const sums = Array.from({ length: this.heads }, () => new Array<number>(rows).fill(0));
    this.plain(mask, (h, row, weight) => {
      const of = sums[h];
      if (of !== undefined) of[row] = (of[row] ?? 0) + weight;
    });
    return sums;
  }

  /** Attention over the mask in double precision, block by block; shows every weight. */
  plain(mask: Int32Array, see?: (head: number, row: number, weight: number) => void) {
    const { kvHeads, group, dim, sequences } = this.problem;
    const { heads, words } = this;
    const out = new Float64Array(this.q.length);
    const lse = new Float64Array(this.q.length / dim);
    const counts = new Int32Array(sequences.length * heads);
    let token = 0;
    let rowBlock = 0;
    for (const [b, { prefix, queries }] of sequences.entries()) {
      const { k, v } = this.host[b] as { k: Float32Array; v: Float32Array };
      for (let i = 0; i < queries; i++, token++) {
        const r = rowBlock + Math.floor(i / BLOCK);
        const diagonal = prefix + Math.floor(i / BLOCK);
        for (let h = 0; h < heads; h++) {
          const seen = (column: number): boolean =>
            column === diagonal ||
            (((mask[(r * heads + h) * words + (column >> 5)] ?? 0) >>> (column & 31)) & 1) === 1;
          const at = (token * heads + h) * dim;
          const kv = Math.floor(h / group);
          const rows: number[] = [];
          for (let column = 0; column <= diagonal; column++) {
            if (!seen(column)) continue;
            if (i % BLOCK === 0) counts[b * heads + h] = (counts[b * heads + h] ?? 0) + 1;
            const end = Math.min((column + 1) * BLOCK, prefix * BLOCK + i + 1);
            for (let j = column * BLOCK; j < end; j++) rows.push((j * kvHeads + kv) * dim);
          }
          const logits = rows.map((from) => {
            let dot = 0;
            for (let c = 0; c < dim; c++) dot += (this.q[at + c] ?? 0) * (k[from + c] ?? 0);
            return dot * this.scale;
          });
          const most = Math.max(...logits);
          const weights = logits.map((logit) => Math.exp(logit - most));
          const sum = weights.reduce((a, x) => a + x, 0);
          lse[token * heads + h] = most + Math.log(sum);
          for (const [n, from] of rows.entries()) {
            const w = (weights[n] ?? 0) / sum;
            see?.(h, Math.floor(from / (kvHeads * dim)), w);
            for (let c = 0; c < dim; c++) out[at + c] = (out[at + c] ?? 0) + w * (v[from + c] ?? 0);
          }
        }
      }
      rowBlock += blocksOf(queries);
    }
    return { out, lse, counts };
  }

  [Symbol.dispose](): void {
    for (const cache of this.caches) cache.dispose();
    this.pool.dispose();
    this.stream.dispose();
  }
}

const problems = fc.record({
  kvHeads: fc.integer({ min: 1, max: 2 }),
  group: fc.constantFrom(1, 2, 4),
  dim: fc.constantFrom(64, 64, 128, 24),
  sequences: fc.array(
    fc.record({
      prefix: fc.integer({ min: 0, max: 2 }),
      queries: fc.constantFrom(1, 2, 127, 128, 129, 255, 257, 300),
    }),
    { minLength: 1, maxLength: 2 },
  ),
  seed: fc.nat({ max: 1 << 20 }),
  density: fc.constantFrom(0, 0.3, 0.7, 1),
});

function close(got: ArrayLike<number>, want: ArrayLike<number>, abs: number, what: string): void {
  let worst = 0;
  for (let i = 0; i < want.length; i++)
    worst = Math.max(worst, Math.abs((got[i] ?? NaN) - (want[i] ?? NaN)) || 0);
  expect(worst, what).toBeLessThanOrEqual(abs);
  expect(got.length).toBe(want.length);
  expect(Array.from(got).every((x) => !Number.isNaN(x))).toBe(true);
}

const plainOne: Problem = {
  kvHeads: 2,
  group: 2,
  dim: 64,
  sequences: [{ prefix: 1, queries: 300 }],
  seed: 3,
  density: 0.5,
};

describeDevices('block-sparse attention', (id) => {
  const dtypes: readonly DType[] = ['float32', 'bfloat16', 'float16'];

  for (const dtype of dtypes) {
    test(`is attention over the visible blocks, ${dtype}`, { timeout: 120_000 }, async () => {
      await fc.assert(
        fc.asyncProperty(problems, async (problem) => {
          using setup = new Setup(id, problem, dtype);
          const got = await setup.run(setup.mask);
          const want = setup.plain(setup.mask);
          expect([...got.counts]).toEqual([...want.counts]);
          const near = dtype === 'float32' ? 3e-5 : 1e-2;
          close(got.out, want.out, near, 'out');
          close(got.lse, want.lse, dtype === 'float32' ? 3e-5 : 1e-3, 'lse');
        }),
        { numRuns: id === 'cpu' ? 8 : 20 },
      );
    });

    test(`over all blocks is dense attention, ${dtype}`, async () => {
      using setup = new Setup(id, plainOne, dtype);
      const all = new Int32Array(setup.mask.length).fill(-1);
      const got = await setup.run(all);
      const want = await setup.dense();
      if (id === 'cpu') {
        expect(got.out).toEqual(want.out);
        expect(got.lse).toEqual(want.lse);
      } else {
        close(got.out, want.out, dtype === 'float32' ? 3e-5 : 4e-3, 'out');
        close(got.lse, want.lse, 1e-4, 'lse');
      }
      // 4 columns are seen by the last of 3 row blocks, 3 and 2 by the others.
      expect([...got.counts]).toEqual(new Array(4).fill(9));
    });
  }

  test.skipIf(id === 'cpu').each(['sm90', 'sm80', 'reference'])(
    'is the same on the kernel %s',
    async (kernel) => {
      try {
        process.env['ACCEL_CUDA_ATTENTION'] = kernel;
        for (const dtype of ['bfloat16', 'float16'] as const) {
          for (const dim of [64, 128]) {
            const sequences = [
              { prefix: 2, queries: 300 },
              { prefix: 0, queries: 129 },
            ];
            using setup = new Setup(id, { ...plainOne, dim, sequences }, dtype);
            const got = await setup.run(setup.mask);
            const want = setup.plain(setup.mask);
            close(got.out, want.out, 1e-2, `${kernel} ${dtype} ${dim}`);
            close(got.lse, want.lse, 1e-3, 'lse');
            expect([...got.counts]).toEqual([...want.counts]);
            expect(setup.stream.kernels()).toHaveProperty(`attention_${kernel}`);
          }
        }
      } finally {
        Reflect.deleteProperty(process.env, 'ACCEL_CUDA_ATTENTION');
      }
    },
  );

  for (const dtype of dtypes) {
    test(`leaves sums over the visible pairs, ${dtype}`, async () => {
      const problem = { ...plainOne, dim: dtype === 'float16' ? 128 : 64, density: 0.4 };
      using setup = new Setup(id, problem, dtype);
      const { stream, device, scale, heads, words } = setup;
      const rows = 428;
      for (const reduce of ['none', 'mean'] as const) {
        using q = setup.query();
        using out = Tensor.empty(device, dtype, q.shape);
        using lse = Tensor.empty(device, 'float32', [300, heads]);
        using mask = Tensor.from(device, setup.mask, [3, heads, words]);
        using sums = Tensor.empty(device, 'float32', [reduce === 'none' ? heads : 2, rows]);
        const kv = setup.caches[0]?.kv(0);
        if (kv === undefined) throw new Error('no cache');
        ops.blockSparseAttention(stream, out, lse, q, kv, Int32Array.of(300), { scale, mask });
        ops.columnSums(stream, sums, q, lse, kv, { scale, reduce, mask });
        const got = (await sums.read(stream)) as Float32Array;
        const perHead = setup.columns(setup.mask);
        const want =
          reduce === 'none'
            ? perHead
            : [0, 1].map((h) =>
                (perHead[2 * h] as number[]).map(
                  (x, j) => (x + (perHead[2 * h + 1]?.[j] ?? 0)) / 2,
                ),
              );
        close(got, want.flat(), dtype === 'float32' ? 1e-4 : 5e-3, reduce);
      }
    });
  }

  test('gives the same bits a hundred times', async () => {
    using setup = new Setup(id, plainOne, id === 'cpu' ? 'float32' : 'bfloat16');
    const first = await setup.run(setup.mask);
    const bytes = (x: Float32Array): Buffer => Buffer.from(x.buffer);
    for (let i = 0; i < 99; i++) {
      const { out } = await setup.run(setup.mask);
      expect(bytes(out).equals(bytes(first.out))).toBe(true);
    }
  });

  describe('refuses', () => {
    const refuse = async (problem: Problem, code: AccelErrorCode, words = 1): Promise<void> => {
      using setup = new Setup(id, problem, 'float32');
      await expectRejection(setup.run(new Int32Array(setup.mask.length * words)), code);
    };

    test('a prefix that is no whole number of blocks', async () => {
      await refuse(
        { ...plainOne, sequences: [{ prefix: 100 / BLOCK, queries: 30 }] },
        'ERR_ACCEL_ARGUMENT',
      );
    });

    test('a mask of another number of row blocks', async () => {
      await refuse(plainOne, 'ERR_ACCEL_SHAPE', 2);
    });
  });

  test('the clock does not go backwards', async () => {
    const device = Device.open(id);
    using stream = device.createStream();
    using before = Tensor.empty(device, 'float64', [1]);
    using after = Tensor.empty(device, 'float64', [1]);
    ops.clock(stream, before);
    ops.clock(stream, after);
    const [a] = (await before.read(stream)) as Float64Array;
    const [b] = (await after.read(stream)) as Float64Array;
    expect((b ?? 0) - (a ?? 0)).toBeGreaterThanOrEqual(0);
    expect((b ?? 0) - (a ?? 0)).toBeLessThan(10);
  });
});
