import { compose, full, loadModel, type Model, type Sequence } from '@accel/core';
import { ops, Tensor } from '@accel/kernels';
import { needlePath } from '@accel/needle';
import { describeDevices } from '@accel/testkit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { l2compress } from '../src/index.js';
import { referenceKeep, referenceScores } from '../src/reference.js';

describeDevices('L2Compress on the embedded model', (device) => {
  let model: Model;
  beforeAll(async () => {
    model = await loadModel(needlePath, { device, dtype: 'float32' });
  });
  afterAll(() => model.dispose());

  /** Different words, so that norms differ. */
  const prompt = (count: number): Int32Array => {
    const words = Array.from(
      { length: count },
      (_, i) => `item ${i * 7919} is ${i % 13} of ${i % 11}.`,
    );
    return model.tokenizer.encode(words.join(' ')).slice(0, count);
  };
  const rowsOf = (sequence: Sequence): number[] =>
    sequence.receipt().layers.map(({ rowsKept }) => {
      expect(new Set(rowsKept).size).toBe(1);
      return rowsKept[0] ?? 0;
    });
  const draw = async (sequence: Sequence, count: number): Promise<void> => {
    const ids: number[] = [];
    for await (const { id } of sequence.generate({ maxTokens: count, ignoreEos: true }))
      ids.push(id);
    expect(ids).toHaveLength(count);
  };

  it('keeps in every layer the rows whose keys are smallest, and the skipped layers whole', async () => {
    const [tokens, capacity] = [700, 150];
    const { layers, kvHeads, headDim } = model.spec;
    const ids = prompt(tokens);
    using whole = model.sequence({ policy: full });
    await whole.append(ids);
    using sequence = model.sequence({
      policy: compose(l2compress({ budget: { tokens: capacity }, sink: 2, recent: 8 })),
      strict: true,
    });
    await sequence.append(ids);
    expect(rowsOf(sequence)).toEqual([
      tokens,
      tokens,
      ...new Array<number>(layers - 2).fill(capacity),
    ]);
    using keys = Tensor.empty(model.device, 'float32', [kvHeads, tokens, headDim]);
    for (let layer = 2; layer < layers; layer++) {
      ops.kvRead(model.stream, keys, null, null, whole.state.kv.kv(layer));
      const data = (await keys.read(model.stream)) as Float32Array;
      const scores = referenceScores(data, kvHeads, headDim, { sink: 2, recent: 8 });
      for (let head = 0; head < kvHeads; head++) {
        const row = scores.subarray(head * tokens, (head + 1) * tokens);
        const kept = [...(await sequence.view().positions(layer, head))];
        const want = referenceKeep(row, capacity);
        // Rows may be swapped only where rounding decides.
        const swapped = kept.filter((position) => !want.includes(position));
        const threshold = Math.min(...want.map((position) => row[position] ?? 0));
        for (const position of swapped)
          expect(Math.abs((row[position] ?? 0) / threshold - 1)).toBeLessThan(1e-4);
      }
    }
  });

  it('holds its memory while decoding, rows leaving one by one', async () => {
    const [tokens, capacity] = [300, 100];
    const policy = compose(
      l2compress({ budget: { tokens: capacity }, skipLayers: [], recent: 16, evicts: 'everyStep' }),
    );
    using sequence = model.sequence({ policy });
    await sequence.append(prompt(tokens));
    const want = new Array<number>(model.spec.layers).fill(capacity);
    await draw(sequence, 40);
    expect(rowsOf(sequence)).toEqual(want);
    const { measuredBytes } = sequence.receipt().kv;
    await draw(sequence, 300);
    expect(rowsOf(sequence)).toEqual(want);
    expect(sequence.receipt().kv.measuredBytes).toBeLessThanOrEqual(1.15 * measuredBytes);
    const newest = [...(await sequence.view().positions(3, 1))].slice(-16);
    expect(newest).toEqual(Array.from({ length: 16 }, (_, i) => sequence.length - 17 + i));
    expect(sequence.receipt().kernels.kv_remove).toBeGreaterThan(0);
  });

  it('saws between two lengths with a share and a threshold', async () => {
    const policy = compose(
      l2compress({
        budget: { keep: 0.9 },
        pruneAfter: 60,
        skipLayers: [],
        evicts: 'everyStep',
      }),
    );
    using sequence = model.sequence({ policy });
    await sequence.append(prompt(59));
    let rows = 59;
    for (let step = 0; step < 30; step++) {
      await sequence.append(prompt(step + 1).slice(-1));
      rows += 1;
      if (rows >= 60) rows = Math.ceil(0.9 * rows);
      expect(sequence.view().rows(4, 1)).toBe(rows);
    }
  });

  it('compresses later turns when asked to, with a share of all tokens', async () => {
    const policy = compose(l2compress({ budget: { keep: 0.5 }, skipLayers: [0], turns: 'every' }));
    using sequence = model.sequence({ policy });
    for (const [tokens, kept] of [
      [301, 151],
      [50, 176],
      [9, 180],
    ] as const) {
      await sequence.append(prompt(tokens));
      expect(sequence.view().rows(1, 0)).toBe(kept);
      expect(sequence.view().rows(0, 0)).toBe(sequence.length);
    }
  });
});
