import { ops, Tensor } from '@accel/kernels';
import {
  layerEnd,
  partSetup,
  readFloats,
  TestCache,
  tokenMajor,
  type GoldenCase,
} from '@accel/testkit';
import { snapkv } from '@accel/snapkv';
import { expect, it } from 'vitest';
import { settingsFrom } from '../src/settings.js';
import { CamSmearer } from '../src/smearer.js';

/** Heads of a head-major tensor, each `times` over. */
function repeated(data: Float32Array, heads: number, times: number): Float32Array {
  const size = data.length / heads;
  const out = new Float32Array(data.length * times);
  for (let head = 0; head < heads * times; head++) {
    const from = Math.floor(head / times) * size;
    out.set(data.subarray(from, from + size), head * size);
  }
  return out;
}

/** `[rows, heads]` as `[heads, rows]`. */
function transposed<T extends Float32Array | Uint8Array>(data: T, heads: number): T {
  const rows = data.length / heads;
  return data.map((_, i) => data[(i % rows) * heads + Math.floor(i / rows)] ?? 0) as T;
}

/** A prompt that is smeared and then cut by SnapKV without pooling. */
export function smearGolden(device: string, golden: GoldenCase): void {
  it('smears the same values and keeps the same rows', async () => {
    const [heads, given, dim, tokens, window] = ['Hq', 'Hkv', 'D', 'T', 'window'].map((name) =>
      golden.param(name),
    ) as [number, number, number, number, number];
    // Without grouping each query head has keys and values of its own.
    const kvHeads = golden.params.gqa_mode === 'none' ? heads : given;
    const wide = (name: string): Float32Array =>
      tokenMajor(repeated(golden.floats(name), given, kvHeads / given), [kvHeads, tokens, dim]);
    using cache = new TestCache(device, { heads: kvHeads, headDim: dim });
    const { stream, kv } = cache;
    cache.append(wide('k'), wide('v'), 0);
    using queries = cache.floats(tokenMajor(golden.floats('q_window'), [heads, window, dim]), [
      window,
      heads,
      dim,
    ]);
    const u = transposed(golden.floats('u'), kvHeads);
    using uniforms = Tensor.from(cache.device, u, [kvHeads, tokens]);
    using p = Tensor.empty(cache.device, 'float32', [kvHeads, tokens]);
    using merged = Tensor.empty(cache.device, 'int32', [kvHeads, tokens]);
    const capacity = golden.param('capacity');
    const settings = settingsFrom({
      at: 'prompt',
      observe: window,
      minPrompt: capacity,
      startRatio: golden.param('start_ratio'),
      denominator: String(golden.params.denominator).includes('[j') ? 'moving' : 'fixed',
    });
    expect(golden.param('start')).toBe(Math.ceil(settings.startRatio * tokens));
    const setup = partSetup(cache, { heads });
    const end = layerEnd(cache, { queries });
    new CamSmearer(setup, settings, { uniforms, p, merged }).prefillEnd(end);

    using values = cache.empty([kvHeads, tokens, dim]);
    ops.kvRead(stream, null, values, null, kv.kv(0));
    golden.expectClose('p', transposed(await readFloats(p, stream), tokens));
    const gates = (await merged.read(stream)) as Int32Array;
    expect(transposed(Uint8Array.from(gates), tokens)).toEqual(golden.tensor('merge').data);
    golden.expectClose('v_smeared', await readFloats(values, stream));

    const select = snapkv({ budget: { tokens: capacity }, observe: window, pool: { size: 1 } });
    const selector = select.create(setup);
    const scores = selector.ranking?.score(end);
    const prefix = tokens - window;
    if (scores === undefined) throw new Error('SnapKV ranks a first prompt');
    const votes = (await readFloats(scores, stream)).filter((_, i) => i % tokens < prefix);
    golden.expectClose('scores', votes);
    scores.dispose();
    selector.prefillEnd(end);
    expect(await cache.positions()).toEqual(golden.lists('keep'));
    selector.dispose();
  });
}
