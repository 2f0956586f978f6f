import { compose, loadModel, type BlockCall, type BlockChooser, type ModelSpec } from '@accel/core';
import { Tensor } from '@accel/kernels';
import {
  describeDevices,
  errorWith,
  knownInputs,
  partSetup,
  queryRows,
  sparseCache,
  unpackMask,
  writeTinyCheckpoint,
} from '@accel/testkit';
import { expect, it } from 'vitest';
import { xattention, type XattentionOptions } from '../src/index.js';
import { estimate } from './harness.js';

const TOKENS = 1280;
const SPEC: Partial<ModelSpec> = { name: 'tiny', layers: 3, heads: 4, kvHeads: 2, headDim: 64 };

describeDevices('the chooser', (device) => {
  /** Lets `use` call a chooser for layer 1 of the known prompt. */
  async function choosing<T>(
    options: XattentionOptions,
    use: (choose: (chooser?: BlockChooser) => Promise<Uint8Array | string>, own: BlockChooser) => T,
  ): Promise<Awaited<T>> {
    const inputs = knownInputs(TOKENS, 64);
    using cache = sparseCache(device, inputs);
    const chooser = xattention(options).create(partSetup(cache, SPEC));
    const blocks = TOKENS / 128;
    using q = cache.floats(queryRows(inputs), [TOKENS, 4, 64]);
    using mask = Tensor.empty(cache.device, 'int32', [blocks, 4, 1]);
    using figures = Tensor.empty(cache.device, 'float32', [4, 2]);
    const call: BlockCall = {
      layer: 1,
      stream: cache.stream,
      q,
      kv: cache.kv.kv(0),
      m: TOKENS,
      rows: TOKENS,
      scale: 1 / 8,
      mask,
      figures,
    };
    try {
      return await use(async (other = chooser) => {
        const reason = other.choose(call);
        if (reason !== undefined) return reason;
        return unpackMask((await mask.read(cache.stream)) as Int32Array, blocks, 4, blocks);
      }, chooser);
    } finally {
      chooser.dispose();
    }
  }

  it('runs the op with its options', async () => {
    const inputs = knownInputs(TOKENS, 64);
    const clean = await estimate(device, inputs, { stride: 8, threshold: 0.6, norm: 2 });
    const options = { stride: 8, threshold: 0.6, norm: 2, dense: 1000 } as const;
    expect(await choosing(options, (choose) => choose())).toEqual(clean.mask);
    const compat = await estimate(device, inputs, { stride: 16, threshold: 0.5, first: 4 });
    const old = { mode: 'compat', stride: 16, threshold: 0.5, chunk: 512 } as const;
    expect(await choosing(old, (choose) => choose())).toEqual(compat.mask);
  });

  it('takes the thresholds of its layer', async () => {
    const plan = [
      [1, 1, 1, 1],
      [0, 0.3, 0.6, 0.9],
      [1, 1, 1, 1],
    ];
    const want = await estimate(device, knownInputs(TOKENS, 64), {
      stride: 16,
      threshold: [0, 0.3, 0.6, 0.9],
    });
    const options = { thresholds: plan, dense: 0 };
    expect(await choosing(options, (choose) => choose())).toEqual(want.mask);
  });

  it('names the kernel that receipts list as a fallback', async () => {
    const names = await choosing({}, (_, chooser) => Object.keys(chooser.slowKernels ?? {}));
    expect(names).toEqual(['xattention_score_plain']);
  });

  it('leaves short prompts dense, and says so', async () => {
    expect(await choosing({}, (choose) => choose())).toBe('up to 2048 tokens attend densely');
    expect(await choosing({ dense: TOKENS }, (choose) => choose())).toMatch('1280');
    expect(await choosing({}, (_, { idleRows }) => idleRows)).toBe(2048);
    expect(await choosing({ mode: 'compat' }, (_, { idleRows }) => idleRows)).toBe(127);
  });

  it('works on in a fork when its parent is gone', async () => {
    const masks = await choosing({ dense: 0 }, async (choose, chooser) => {
      const before = await choose();
      const fork = chooser.fork();
      chooser.dispose();
      const after = await choose(fork);
      fork.dispose();
      return [before, after];
    });
    expect(masks[1]).toEqual(masks[0]);
  });

  it.each([
    { thresholds: [[0.5, 0.5, 0.5, 0.5]], text: '3 layers' },
    { thresholds: [[0.5], [0.5], [0.5]], text: 'layer 0 has 1' },
  ])('refuses thresholds for another model', async ({ thresholds, text }) => {
    await expect(choosing({ thresholds }, () => 0)).rejects.toEqual(
      errorWith('ERR_ACCEL_POLICY', text),
    );
  });

  it('is exact at threshold 1 and tells what it did, in a model', async () => {
    using checkpoint = writeTinyCheckpoint({ contextLength: 4096 });
    const options = { device, dtype: 'float32', kvBytes: 32 << 20 } as const;
    using model = await loadModel(checkpoint.path, options);
    const prompt = Int32Array.from({ length: 700 }, (_, i) => (i * 37) % 250);
    const logitsOf = async (part?: ReturnType<typeof xattention>) => {
      using sequence = model.sequence(part ? { policy: compose(part), strict: true } : {});
      await sequence.append(prompt);
      return { logits: await sequence.logits(), receipt: sequence.receipt() };
    };
    const ones = new Array<number>(model.spec.heads).fill(1);
    const dense = await logitsOf();
    const all = await logitsOf(xattention({ threshold: 1, dense: 0 }));
    const most = dense.logits.reduce(
      (a, x, i) => Math.max(a, Math.abs(x - (all.logits[i] as number))),
      0,
    );
    expect(most).toBeLessThan(2e-4);
    // Of the last layer only the last token is wanted, which is no block.
    const [first, last] = all.receipt.prefill?.layers ?? [];
    expect(first).toMatchObject({ sparseTokens: 700, denseTokens: 0 });
    expect(last).toMatchObject({ sparseTokens: 0, denseTokens: 1 });
    expect(first?.figures).toEqual({ recall: ones, minRecall: ones });
    const few = await logitsOf(xattention({ threshold: 0, dense: 0 }));
    // Six row blocks: 1 + 5 · 2 of 21 blocks.
    for (const density of few.receipt.prefill?.layers[0]?.density ?? [])
      expect(density).toBeCloseTo(11 / 21, 6);
  });
});
