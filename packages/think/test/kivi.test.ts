import { compose, loadModel, type Channels, type RowFormat } from '@accel/core';
import { kivi, method as kiviMethod } from '@accel/kivi';
import { loadOpLibrary, Tensor, toFloat16, type DType } from '@accel/kernels';
import {
  byteTokens,
  describeDevices,
  describeGolden,
  expectClose,
  layerEnd,
  partSetup,
  readFloats,
  TestCache,
  tokenMajor,
  writeTinyCheckpoint,
  type GoldenCase,
  type Tolerance,
} from '@accel/testkit';
import { describe, expect, it } from 'vitest';
import { think } from '../src/index.js';
import { thinkQueries, thinkScores } from '../src/ops.js';

const BITS = 2;
const GROUP = 32;

/** What a head's packed keys consist of: words, and halves as their bits. */
interface Packed {
  readonly codes: Uint32Array;
  readonly scales: Uint16Array;
  readonly minima: Uint16Array;
}

/** A one-layer cache under KIVI, with channels pruned or not, driven as the engine drives it. One kv head a query head. */
class Pair implements Disposable {
  readonly cache: TestCache;
  readonly format: RowFormat;
  readonly channels: Channels | undefined;
  readonly kept: number;

  constructor(device: string, heads: number, dim: number, dtype: DType, ratio: number | undefined) {
    const spec = { heads, kvHeads: heads, headDim: dim };
    const codec = kivi({ bits: BITS, group: GROUP, residual: 32, guarded: false });
    const part = ratio === undefined ? undefined : think({ ratio });
    const whole = spec as Parameters<ReturnType<typeof think>['kept']>[0];
    this.kept = part?.kept(whole) ?? dim;
    const header = part?.header(whole) ?? 0;
    this.format = codec.format({ spec: whole, dtype, channels: this.kept, header, recent: 0 });
    this.cache = new TestCache(device, {
      heads,
      headDim: dim,
      dtype,
      positions: 'implied',
      encoded: this.format.items,
    });
    this.channels = part?.create(partSetup(this.cache, spec));
  }

  /** The end of the prompt: channels are chosen by the keys that will be packed. */
  prompt(q: Float32Array): void {
    const { cache, channels, format } = this;
    const { kv, stream, heads, headDim } = cache;
    using queries = cache.floats(q, [q.length / (heads * headDim), heads, headDim]);
    channels?.observe(layerEnd(cache, { queries }));
    kv.encode(0, format.rules, (args, most) => {
      const rows = kv.encodedRows(0, 0).keys;
      channels?.choose({ layer: 0, stream, kv: args, rows });
      format.encode({ stream, kv: args, keys: most, values: most });
    });
  }

  async step(q: Float32Array): Promise<Float32Array> {
    const { cache, format } = this;
    const { kv, stream, heads, headDim } = cache;
    using query = cache.floats(q, [1, heads, headDim]);
    using out = cache.empty([1, heads, headDim]);
    const scale = 1 / Math.sqrt(headDim);
    format.attend({
      stream,
      out,
      lse: null,
      q: query,
      kv: kv.kv(0),
      lens: Int32Array.of(1),
      scale,
      window: 0,
    });
    kv.encode(0, format.rules, (args, most) =>
      format.encode({ stream, kv: args, keys: most, values: most }),
    );
    return await readFloats(out, stream);
  }

  async packed(): Promise<Packed> {
    const { device, stream, kv, heads } = this.cache;
    const { keys } = kv.encodedRows(0, 0);
    const shape = [heads, this.kept, keys / GROUP];
    using codes = Tensor.empty(device, 'int32', [heads, this.kept, (keys * BITS) / 32]);
    using scales = Tensor.empty(device, 'float16', shape);
    using minima = Tensor.empty(device, 'float16', shape);
    if (kiviMethod.library === undefined) throw new Error('KIVI has kernels');
    const read = loadOpLibrary(kiviMethod.library).op('kivi_read');
    const layout = [BITS, BITS, GROUP, this.kept];
    stream.run(read, codes, scales, minima, null, null, null, kv.kv(0), ...layout);
    return {
      codes: new Uint32Array(((await codes.read(stream)) as Int32Array).buffer),
      scales: toFloat16(await readFloats(scales, stream)),
      minima: toFloat16(await readFloats(minima, stream)),
    };
  }

  dispose(): void {
    this.channels?.dispose();
    this.cache.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** A prompt and decode steps. */
function stream(device: string, golden: GoldenCase): void {
  const [heads, dim, prompt, steps, pruned] = [
    'Hq',
    'D',
    'prompt',
    'decode_steps',
    'pruned_channels',
  ].map((name) => golden.param(name)) as [number, number, number, number, number];
  const rows = (name: string, from: number, to: number): Float32Array => {
    const shape = golden.tensor(name).shape as [number, number, number];
    return tokenMajor(golden.floats(name), shape, from, to);
  };
  const start = (dtype: DType, ratio?: number): Pair => {
    const pair = new Pair(device, heads, dim, dtype, ratio);
    pair.cache.append(rows('k', 0, prompt), rows('v', 0, prompt), 0);
    return pair;
  };
  const ratio = golden.param('pruning_ratio');

  it('scores channels by the keys that will be packed', async () => {
    using pair = start('float32');
    const { cache } = pair;
    using queries = cache.floats(rows('q_last', 0, 32), [32, heads, dim]);
    using means = Tensor.empty(cache.device, 'float32', [heads, dim]);
    using scores = Tensor.empty(cache.device, 'float32', [heads, dim]);
    thinkQueries(cache.stream, means, queries, 'mean');
    thinkScores(cache.stream, scores, means, cache.kv.kv(0), 64);
    golden.expectClose('channel_scores', await readFloats(scores, cache.stream));
  });

  it.each(['float32', 'float16'] as const)(
    'packs the same channels to the same bits, and gives the same outputs: %s',
    async (dtype) => {
      using pair = start(dtype, ratio);
      expect(dim - pair.kept).toBe(pruned);
      pair.prompt(rows('q_last', 0, 32));
      const exact = golden.tolerance.o as { abs16: number } & Exclude<Tolerance, string>;
      const tolerance = dtype === 'float32' ? exact : { abs: exact.abs16, rel: 2 ** -11 };
      for (let step = 0; step < steps; step++) {
        const at = prompt + step;
        pair.cache.append(rows('k', at, at + 1), rows('v', at, at + 1), at);
        const out = await pair.step(rows('q_dec', step, step + 1));
        expectClose(out, rows('o', step, step + 1), tolerance, `output of step ${step}`);
      }
      const packed = await pair.packed();
      expect(packed.codes).toEqual(golden.tensor('codes_k').data);
      expect(packed.scales).toEqual(golden.tensor('scale_k').data);
      expect(packed.minima).toEqual(golden.tensor('min_k').data);
    },
  );

  it('packs a kept channel to the bits it would have without pruning', async () => {
    using pair = start('float32', ratio);
    using plain = start('float32');
    for (const one of [pair, plain]) one.prompt(rows('q_last', 0, 32));
    const keep = golden.tensor('channel_keep').data as Uint8Array;
    const [all, some] = [await plain.packed(), await pair.packed()];
    for (const kind of ['codes', 'scales', 'minima'] as const) {
      const width = all[kind].length / (heads * dim);
      const kept = [...all[kind]].filter((_, i) => keep[Math.floor(i / width)] === 1);
      expect([...some[kind]], kind).toEqual(kept);
    }
  });
}

describeDevices('ThinK with KIVI', (device) => {
  describeGolden('think', (cases) => {
    for (const golden of cases.filter((one) => one.has('codes_k')))
      describe(golden.id, () => stream(device, golden));
  });

  it('takes less than either alone, and goes on packing in decode steps', async () => {
    using checkpoint = writeTinyCheckpoint({ headDim: 64 });
    using model = await loadModel(checkpoint.path, { device, dtype: 'float32', kvBytes: 64 << 20 });
    const tokens = byteTokens(3900, 3);
    const codec = kivi({ bits: 4, residual: 32 });
    const shares: number[] = [];
    for (const policy of [compose(think()), compose(codec), compose(think(), codec)]) {
      using sequence = model.sequence({ policy, strict: true });
      await sequence.append(tokens);
      const { measuredBytes, arithmeticBytes, fullBytes } = sequence.receipt().kv;
      shares.push(measuredBytes / fullBytes);
      expect(measuredBytes / arithmeticBytes).toBeGreaterThanOrEqual(1);
      expect(measuredBytes / arithmeticBytes).toBeLessThanOrEqual(1.05);
      for await (const _ of sequence.generate({ maxTokens: 70, ignoreEos: true }));
      await sequence.append(tokens.subarray(0, 50));
      if (policy.parts.length < 2) continue;
      // Of 4020 rows the newest 32 are whole, as without a codec.
      expect(sequence.state.kv.encodedRows(0, 0).keys).toBe(3968);
      expect(sequence.receipt().parts.every(({ acted }) => acted > 0)).toBe(true);
    }
    const [thin = 0, packed = 0, both = 0] = shares;
    expect(both).toBeLessThan(packed);
    expect(packed).toBeLessThan(thin);
  });

  it.each([
    { recent: 32, keys: 96 },
    { recent: 20, keys: 96 },
    // As published: a whole residual is packed, with the newest key.
    { recent: 0, keys: 128 },
  ])('leaves the newest $recent keys plain when a residual is full', async ({ recent, keys }) => {
    using checkpoint = writeTinyCheckpoint({ headDim: 64 });
    using model = await loadModel(checkpoint.path, { device, dtype: 'float32', kvBytes: 64 << 20 });
    const codec = kivi({ bits: 4, residual: 32, guarded: false });
    using sequence = model.sequence({ policy: compose(think({ recent }), codec), strict: true });
    await sequence.append(byteTokens(128, 4));
    expect(sequence.state.kv.encodedRows(1, 0)).toEqual({ keys, values: 96 });
  });
});
