import { readFileSync } from 'node:fs';
import { compose, loadModel, type Model, type Policy, type Sequence } from '@accel/core';
import { l2compress } from '@accel/l2compress';
import { needlePath } from '@accel/needle';
import { snapkv } from '@accel/snapkv';
import { describeDevices, describeShared, sharedPath } from '@accel/testkit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { pyramidkv, pyramidPlan, pyramidRows, type PyramidMode } from '../src/index.js';

interface NeedlePrompt {
  readonly id: string;
  readonly task: string;
  readonly input_ids: readonly number[];
  readonly references: readonly string[];
}

const sum = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0);

describeDevices('PyramidKV on the embedded model', (device) => {
  let model: Model;
  beforeAll(async () => {
    model = await loadModel(needlePath, { device, dtype: 'float32' });
  });
  afterAll(() => model.dispose());

  const text = 'The grass is green. The sky is blue. The sun is yellow. Here we go. ';
  const prompt = (count: number): Int32Array =>
    model.tokenizer.encode(text.repeat(200)).slice(0, count);
  /** Rows by layer, from the receipt; the same in all heads. */
  const rowsOf = (sequence: Sequence): number[] =>
    sequence.receipt().layers.map(({ rowsKept }) => {
      expect(new Set(rowsKept).size).toBe(1);
      return rowsKept[0] ?? 0;
    });

  it.each(
    [50, 200, 300, 500, 900].flatMap((tokens) =>
      (['exact', 'reference', 'kvpress'] as PyramidMode[]).map((mode) => ({ tokens, mode })),
    ),
  )('keeps of $tokens tokens what the $mode arithmetic says', async ({ tokens, mode }) => {
    const [capacity, window] = [200, 24];
    const select = snapkv({ budget: { tokens: capacity }, observe: window });
    using sequence = model.sequence({ policy: compose(select, pyramidkv({ mode })) });
    await sequence.append(prompt(tokens));
    const { layers } = model.spec;
    const shape = { capacity, window, rows: tokens, layers, beta: 20 };
    const want = tokens <= capacity ? new Array(layers).fill(tokens) : pyramidRows(shape, mode);
    expect(rowsOf(sequence)).toEqual(want);
    if (mode === 'exact') {
      expect(sum(rowsOf(sequence))).toBe(layers * Math.min(tokens, capacity));
      const plan = pyramidPlan(model.spec, { budget: { tokens: capacity }, window, rows: tokens });
      expect(plan.total).toBe(model.spec.kvHeads * sum(want as number[]));
    }
  });

  it('spends the budget exactly in every turn, also where layers differ in what they have', async () => {
    const [capacity, window] = [200, 24];
    const select = snapkv({ budget: { tokens: capacity }, observe: window, turns: 'every' });
    // The first prompt is in the branch where all layers get the same; then early layers are due more than they have.
    using sequence = model.sequence({ policy: compose(select, pyramidkv()) });
    let seen = 0;
    for (const tokens of [345, 20, 9, 260]) {
      await sequence.append(prompt(tokens));
      seen += tokens;
      const rows = rowsOf(sequence);
      expect(sum(rows), `after ${seen} tokens`).toBe(model.spec.layers * capacity);
      expect(
        [...rows].sort((a, b) => b - a),
        `after ${seen} tokens`,
      ).toEqual(rows);
    }
    const last = pyramidRows({ capacity, window, rows: seen, layers: model.spec.layers, beta: 20 });
    expect(rowsOf(sequence)).toEqual(last);
  });

  it('begins where the select part begins: L2Compress leaves its first layers whole', async () => {
    const [capacity, tokens] = [100, 600];
    const select = l2compress({ budget: { tokens: capacity }, skipLayers: [0, 1] });
    using sequence = model.sequence({ policy: compose(select, pyramidkv()), strict: true });
    await sequence.append(prompt(tokens));
    const layers = model.spec.layers - 2;
    const shape = { capacity, window: 0, rows: tokens, layers, beta: 20 };
    expect(rowsOf(sequence)).toEqual([tokens, tokens, ...pyramidRows(shape)]);
  });

  it('lets a selection that evicts at every step hold the share of each layer', async () => {
    const [capacity, tokens] = [100, 400];
    const select = l2compress({
      budget: { tokens: capacity },
      skipLayers: [],
      recent: 10,
      evicts: 'everyStep',
    });
    using sequence = model.sequence({ policy: compose(select, pyramidkv()) });
    await sequence.append(prompt(tokens));
    let drawn = 0;
    for await (const { id } of sequence.generate({ maxTokens: 12, ignoreEos: true }))
      drawn += Number(id >= 0);
    expect(drawn).toBe(12);
    const { layers } = model.spec;
    const shape = { capacity, window: 10, rows: tokens, layers, beta: 20 };
    expect(rowsOf(sequence)).toEqual(pyramidRows(shape));
  });

  it('goes on when a later turn lets such a selection hold more', async () => {
    const select = l2compress({
      budget: { tokens: 100 },
      skipLayers: [],
      recent: 10,
      evicts: 'everyStep',
    });
    using sequence = model.sequence({ policy: compose(select, pyramidkv()) });
    const draw = async (on: Sequence): Promise<void> => {
      const ids: number[] = [];
      for await (const { id } of on.generate({ maxTokens: 6, ignoreEos: true })) ids.push(id);
      expect(ids).toHaveLength(6);
    };
    const { layers } = model.spec;
    await sequence.append(prompt(150));
    await draw(sequence);
    expect(rowsOf(sequence)).toEqual(new Array(layers).fill(100));
    await sequence.append(prompt(60));
    const shares = rowsOf(sequence);
    expect(sum(shares)).toBe(layers * 100);
    expect(shares[0]).toBeGreaterThan(shares.at(-1) ?? 0);
    using fork = sequence.fork();
    for (const one of [sequence, fork]) {
      await draw(one);
      expect(rowsOf(one)).toEqual(shares);
    }
  });

  it('starts afresh after a turn that was aborted', async () => {
    const policy: Policy = compose(snapkv({ budget: { tokens: 100 }, observe: 16 }), pyramidkv());
    using sequence = model.sequence({ policy });
    const controller = new AbortController();
    const aborted = sequence.append(prompt(700), {
      signal: controller.signal,
      onProgress: () => controller.abort(),
    });
    await expect(aborted).rejects.toMatchObject({ code: 'ERR_ACCEL_ABORTED' });
    await sequence.append(prompt(400));
    const shape = { capacity: 100, window: 16, rows: 400, layers: model.spec.layers, beta: 20 };
    expect(rowsOf(sequence)).toEqual(pyramidRows(shape));
  });

  describeShared('golden/needle', () => {
    const prompts = readFileSync(sharedPath('golden/needle/prompts.jsonl'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as NeedlePrompt)
      .filter(({ task, input_ids: ids }) => /single_[12]/.test(task) && ids.length <= 2100);

    // The pool is as wide as a value, see SnapKV's test of the same prompts.
    it.each(prompts)(
      'finds the needle of $id in a quarter of the rows',
      async ({ input_ids: ids, references }) => {
        const policy = compose(
          snapkv({ budget: { keep: 0.25 }, observe: 16, pool: { kind: 'max', size: 21 } }),
          pyramidkv(),
        );
        using sequence = model.sequence({ policy, strict: true });
        await sequence.append(ids);
        let answer = '';
        for await (const token of sequence.generate({ maxTokens: 48 })) answer += token.text;
        for (const reference of references) expect(answer).toContain(reference);
      },
    );
  });
});
