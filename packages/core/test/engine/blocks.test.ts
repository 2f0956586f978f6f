import { fileURLToPath } from 'node:url';
import { Tensor } from '@accel/kernels';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { planChunks, planTailChunks } from '../../src/engine/chunks.js';
import {
  appendBatch,
  assertStrict,
  BLOCK,
  compose,
  freezePart,
  full,
  keepBest,
  loadModel,
  type BlockCall,
  type BlockChooser,
  type Model,
  type PrefillPart,
  type Selector,
  type SelectPart,
} from '../../src/index.js';
import { describeDevices } from '../devices.js';
import { counting, talliesOf } from './parts.js';
import { largestDifference, needleDir, someTokens } from './support.js';

/** Blocks by a rule of (row block, column), the same for all heads but that odd ones see what `odd` adds. */
function blocks(
  rule: (row: number, column: number) => boolean,
  calls: BlockCall[] = [],
  dense = 0,
): PrefillPart<'blocks', 'observedWindow'> {
  const create = (): BlockChooser => ({
    idleRows: dense,
    choose: (call) => {
      if (call.rows <= dense) return 'the prompt is short';
      const [rowBlocks = 0, heads = 0, words = 0] = call.mask.shape;
      const first = (call.rows - call.m) / BLOCK;
      const bits = new Int32Array(rowBlocks * heads * words);
      for (let r = 0; r < rowBlocks; r++)
        for (let h = 0; h < heads; h++)
          for (let j = 0; j <= first + r; j++)
            if (rule(first + r, j)) {
              const at = (r * heads + h) * words + (j >> 5);
              bits[at] = (bits[at] ?? 0) | (1 << (j & 31));
            }
      call.mask.write(call.stream, bits);
      call.figures.write(
        call.stream,
        Float32Array.from({ length: heads * 2 }, (_, i) => (i % 2 === 0 ? 0.5 : call.rows)),
      );
      calls.push(call);
      return undefined;
    },
    save: () => null,
    fork: create,
    dispose: () => undefined,
  });
  return freezePart({
    id: 'blocks',
    slot: 'prefill',
    needs: [],
    provides: ['observedWindow'],
    lossy: true,
    options: {},
    figures: ['recall', 'minRows'],
    create,
  });
}

/** Keeps the newest rows when the first prompt ends. */
function newest(rows: number): SelectPart<'newest', never> {
  const create = (): Selector => ({
    idleRows: rows,
    prefillEnd: (end) => {
      if (end.turn > 0 || end.rows <= rows) return;
      const heads = 2;
      const scores = Float32Array.from({ length: heads * end.rows }, (_, i) => i % end.rows);
      using ranked = Tensor.from(end.stream.device, scores, [heads, end.rows]);
      keepBest(end, ranked, rows);
    },
    save: () => null,
    fork: create,
    dispose: () => undefined,
  });
  return freezePart({
    id: 'newest',
    slot: 'select',
    needs: [],
    provides: [],
    lossy: true,
    positions: 'original',
    options: {},
    create,
  });
}

const all = (): boolean => true;
const band = (row: number, column: number): boolean => column === 0 || row - column < 2;

test('pieces of a sequence that chooses blocks do not depend on its neighbours', () => {
  const lengths = fc.array(fc.integer({ min: 1, max: 900 }), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(lengths, fc.integer({ min: 0, max: 127 }), (list, grid) => {
      const grids = list.map((_, i) => (i % 2 === 0 ? grid : undefined));
      const tails = list.map(() => 200);
      const plans = [
        planChunks(list, 300, grids),
        planTailChunks(list, tails, [], 300, grids),
      ] as const;
      for (const [which, chunks] of plans.entries()) {
        const pieces = chunks.flatMap((chunk) => chunk.pieces);
        for (const [item, length] of list.entries()) {
          if (grids[item] === undefined) continue;
          const alone =
            which === 0
              ? planChunks([length], 300, [grid])
              : planTailChunks([length], [200], [], 300, [grid]);
          const cuts = (of: typeof pieces): number[] => of.map(({ offset }) => offset);
          const own = pieces.filter((piece) => piece.item === item);
          expect(cuts(own)).toEqual(cuts(alone.flatMap((chunk) => chunk.pieces)));
          // Blocks begin on the grid; what is too short to have any may begin anywhere.
          for (const { offset, begin, end } of own)
            if (offset >= grid && end - begin >= BLOCK) expect((offset - grid) % BLOCK).toBe(0);
        }
        const covered = pieces.reduce((sum, { begin, end }) => sum + end - begin, 0);
        expect(covered).toBe(list.reduce((sum, length) => sum + length, 0));
      }
    }),
  );
});

describeDevices('a prefill part', (device) => {
  const near = 2e-4;
  let model: Model;
  beforeAll(async () => {
    model = await loadModel(needleDir, {
      device,
      dtype: 'float32',
      kvBytes: 64 << 20,
      chunkTokens: 384,
    });
  });
  afterAll(() => model.dispose());
  afterEach(() => expect(model.pool.usedBytes).toBe(0));

  const ids = (count: number, seed = 1): Int32Array =>
    someTokens(count, model.spec.vocabSize, seed);

  async function logitsAfter(policy: Parameters<Model['sequence']>[0], turns: Int32Array[]) {
    using sequence = model.sequence(policy);
    for (const turn of turns) await sequence.append(turn, { logits: 150 });
    return { logits: await sequence.logits(), receipt: sequence.receipt() };
  }

  test('that chooses every block changes nothing', async () => {
    const turns = [ids(1000), ids(300, 2), ids(40, 3), ids(500, 4)];
    const want = await logitsAfter({ policy: full }, turns);
    const got = await logitsAfter({ policy: compose(blocks(all)) }, turns);
    expect(largestDifference(got.logits, want.logits)).toBeLessThanOrEqual(near);
    const { prefill } = got.receipt;
    expect(prefill?.layers).toHaveLength(model.spec.layers);
    for (const { density } of prefill?.layers ?? []) expect(new Set(density)).toEqual(new Set([1]));
  });

  test('that leaves blocks out changes attention, and the receipt says how much', async () => {
    const calls: BlockCall[] = [];
    const policy = compose(blocks(band, calls));
    const want = await logitsAfter({ policy: full }, [ids(1000)]);
    const { logits, receipt } = await logitsAfter({ policy }, [ids(1000)]);
    expect(largestDifference(logits, want.logits)).toBeGreaterThan(1e-3);
    const layer = receipt.prefill?.layers[0];
    expect(layer).toMatchObject({ sparseTokens: 1000, denseTokens: 0 });
    // Row block i of 8 computes min(i + 1, 3) blocks of i + 1.
    expect(layer?.density).toEqual(new Array(model.spec.heads).fill(21 / 36));
    expect(layer?.figures['recall']).toEqual(new Array(model.spec.heads).fill(0.5));
    expect(layer?.figures['minRows']).toEqual(new Array(model.spec.heads).fill(384));
    expect(receipt.prefill?.estimateSeconds).toBeGreaterThan(0);
    expect(receipt.parts[0]).toMatchObject({ id: 'blocks', acted: calls.length, idleRows: 0 });
    expect(receipt.kernels).toHaveProperty(device === 'cpu' ? 'block_sparse_tiled' : 'block_lists');
    expect(() => assertStrict(receipt)).not.toThrow();
  });

  test('gives the same alone and in a batch, in one turn and after another', async () => {
    const policy = compose(blocks(band));
    const prompts = [ids(700, 5), ids(333, 6), ids(900, 7)];
    const alone = [];
    for (const prompt of prompts) alone.push((await logitsAfter({ policy }, [prompt])).logits);
    const sequences = prompts.map((_, i) => model.sequence({ policy: i === 1 ? full : policy }));
    try {
      await appendBatch(
        sequences.map((sequence, i) => ({ sequence, tokens: prompts[i] as Int32Array })),
        { logits: 150 },
      );
      for (const i of [0, 2])
        expect(
          largestDifference((await sequences[i]?.logits()) ?? [], alone[i] ?? []),
        ).toBeLessThanOrEqual(near);
    } finally {
      for (const sequence of sequences) sequence.dispose();
    }
  });

  test('goes on block by block in a later turn that begins inside one', async () => {
    const policy = compose(blocks(band));
    const whole = await logitsAfter({ policy }, [ids(1000)]);
    const { logits, receipt } = await logitsAfter({ policy }, [
      ids(1000).subarray(0, 300),
      ids(1000).subarray(300),
    ]);
    // 84 tokens up to the next block see everything; what comes after them chooses as before.
    expect(receipt.prefill?.layers[0]).toMatchObject({ sparseTokens: 916, denseTokens: 84 });
    expect(receipt.prefill?.dense).toHaveProperty('fewer than 128 queries');
    // The block that they are in sees everything in one turn too.
    expect(largestDifference(logits, whole.logits)).toBeLessThanOrEqual(near);
  });

  test('may attend densely, with a reason, and is idle up to there only', async () => {
    const policy = compose(blocks(band, [], 500));
    const short = await logitsAfter({ policy }, [ids(400)]);
    expect(short.receipt.prefill?.dense).toHaveProperty('the prompt is short');
    expect(short.receipt.parts[0]).toMatchObject({ acted: 0, idleRows: 500 });
    expect(() => assertStrict(short.receipt)).not.toThrow();
    const want = await logitsAfter({ policy: full }, [ids(400)]);
    expect(largestDifference(short.logits, want.logits)).toBeLessThanOrEqual(near);

    const never = compose({
      ...blocks(band, [], 5000),
      create: () => ({ ...chooser(5000), idleRows: 0 }),
    });
    const long = await logitsAfter({ policy: never }, [ids(400)]);
    expect(() => assertStrict(long.receipt)).toThrow(/never acted/);
  });

  const chooser = (dense: number): BlockChooser =>
    blocks(band, [], dense).create(undefined as never);

  test('lets counted attention count what was computed', async () => {
    const tally = { kind: 'attention', reduce: 'sum', of: 'prompts' } as const;
    const policy = compose(blocks(band), {
      ...counting([tally]),
      lossy: 'approximateSignal',
    } as const);
    using sequence = model.sequence({ policy });
    await sequence.append(ids(1000));
    const { heads, kvHeads } = model.spec;
    for (const tallies of await talliesOf(sequence, 0, 0)) {
      const sum = tallies.reduce((a, b) => a + b, 0);
      // Every query gives away one in each head, wherever its blocks are.
      expect(sum).toBeCloseTo((1000 * heads) / kvHeads, 1);
    }
  });

  test('goes with a selector; later turns use what is left', async () => {
    const policy = compose(blocks(band), newest(200));
    using sequence = model.sequence({ policy });
    await sequence.append(ids(700));
    expect(sequence.view().rows(0, 0)).toBe(200);
    await sequence.append(ids(400, 9));
    using fork = sequence.fork();
    expect(fork.receipt().prefill).toEqual(sequence.receipt().prefill);
    const tokens: number[] = [];
    for await (const { id } of sequence.generate({ maxTokens: 3, ignoreEos: true }))
      tokens.push(id);
    expect(tokens).toHaveLength(3);
  });

  describe('sequence files', () => {
    test('keep that it acted', async () => {
      const path = fileURLToPath(
        new URL(`../../node_modules/.blocks-${device}.accel`, import.meta.url),
      );
      const policy = compose(blocks(band));
      using sequence = model.sequence({ policy });
      await sequence.append(ids(600));
      await sequence.save(path);
      using back = await model.restore(path, { policy });
      expect(back.receipt().parts[0]?.acted).toBe(sequence.receipt().parts[0]?.acted);
      await back.append(ids(300, 2));
    });
  });
});
