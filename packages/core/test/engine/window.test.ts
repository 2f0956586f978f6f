import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Tensor } from '@accel/kernels';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  assertStrict,
  compose,
  freezePart,
  full,
  loadModel,
  type BlockChooser,
  type LayerEnd,
  type Model,
  type PrefillPart,
  type Selector,
  type SelectPart,
  type Sequence,
} from '../../src/index.js';
import { describeDevices } from '../devices.js';
import { counting, talliesOf } from './parts.js';
import { largestDifference, needleDir, someTokens } from './support.js';

const WINDOW = 40;
const NEAR = 1e-4;

/** The embedded model as a Mistral, which differs from a Llama in its window alone. */
function windowedNeedle(): string {
  const dir = mkdtempSync(join(tmpdir(), 'accel-window-'));
  for (const name of readdirSync(needleDir)) {
    if (name !== 'config.json') symlinkSync(join(needleDir, name), join(dir, name));
  }
  const config = JSON.parse(readFileSync(join(needleDir, 'config.json'), 'utf8')) as object;
  const mistral = { architectures: ['MistralForCausalLM'], model_type: 'mistral' };
  writeFileSync(
    join(dir, 'config.json'),
    JSON.stringify({ ...config, ...mistral, sliding_window: WINDOW }),
  );
  return dir;
}

/** After the first prompt every second row leaves, even ones in even heads and odd ones in odd heads. */
function thinning(): SelectPart<'thinning', never> {
  const create = (): Selector => ({
    prefillEnd: (end: LayerEnd) => {
      const { layer, turn, kv, rows, stream } = end;
      if (turn > 0) return;
      const { heads } = kv.shape;
      const kept = Array.from({ length: heads }, (_, head) =>
        Array.from({ length: Math.floor(rows / 2) }, (_row, i) => 2 * i + (head % 2)),
      );
      using index = Tensor.from(stream.device, Int32Array.from(kept.flat()), [
        heads,
        Math.floor(rows / 2),
      ]);
      kv.compact(
        layer,
        index,
        kept.map(({ length }) => length),
      );
      end.report({ rowsIn: rows, rowsKept: Math.floor(rows / 2) });
    },
    save: () => null,
    fork: create,
    dispose: () => undefined,
  });
  return freezePart({
    id: 'thinning',
    slot: 'select',
    needs: [],
    provides: [],
    lossy: true,
    positions: 'original',
    options: {},
    create,
  });
}

describeDevices('a model with a sliding window', (device) => {
  let dir: string;
  let model: Model;
  beforeAll(async () => {
    dir = windowedNeedle();
    model = await load();
  });
  afterAll(() => {
    model.dispose();
    rmSync(dir, { recursive: true });
  });
  const load = (chunkTokens = 512): Promise<Model> =>
    loadModel(dir, { device, dtype: 'float32', chunkTokens });
  const tokens = (count: number, seed: number): Int32Array =>
    someTokens(count, model.spec.vocabSize, seed);

  test('sees positions, not rows, after rows have left', async () => {
    using sequence = model.sequence({ policy: compose(thinning()) });
    await sequence.append(tokens(120, 1));
    for (const [i, token] of tokens(30, 2).entries()) {
      // The same cache without the rows that are too far away: the window then hides nothing.
      using near = sequence.fork();
      await forget(near, sequence.length - WINDOW);
      await near.append([token]);
      await sequence.append([token]);
      const difference = largestDifference(await sequence.logits(), await near.logits());
      expect(difference, `token ${i}`).toBeLessThan(NEAR);
    }
  });

  test('sees the same in a later turn, whatever its chunks', async () => {
    const run = async (chunkTokens: number, pieces: number): Promise<Float32Array> => {
      using own = await load(chunkTokens);
      using sequence = own.sequence({ policy: compose(thinning()) });
      await sequence.append(tokens(120, 3));
      const turn = tokens(60, 4);
      for (let at = 0; at < 60; at += 60 / pieces)
        await sequence.append(turn.subarray(at, at + 60 / pieces));
      return await sequence.logits();
    };
    const whole = await run(512, 1);
    for (const [chunk, pieces] of [
      [7, 1],
      [512, 60],
      [64, 3],
    ] as const) {
      expect(largestDifference(await run(chunk, pieces), whole)).toBeLessThan(NEAR);
    }
  });

  test('is attended densely by a sparse prefill, which the receipt says', async () => {
    using sparse = model.sequence({ policy: compose(choosing()) });
    using exact = model.sequence({ policy: full });
    for (const sequence of [sparse, exact]) await sequence.append(tokens(300, 6));
    expect(await sparse.logits()).toEqual(await exact.logits());
    const receipt = sparse.receipt();
    expect(receipt.prefill?.dense).toHaveProperty('the layer has a sliding window');
    expect(() => assertStrict(receipt)).toThrow(/never acted/);
  });

  test('counts the attention inside it alone', async () => {
    const prompts = { kind: 'attention', reduce: 'mean', of: 'prompts' } as const;
    const last = { kind: 'lastAttention', reduce: 'mean' } as const;
    using counted = model.sequence({ policy: compose(counting([prompts, last])) });
    using exact = model.sequence({ policy: full });
    for (const sequence of [counted, exact]) {
      await sequence.append(tokens(100, 5));
      for await (const _ of sequence.generate({ maxTokens: 8, ignoreEos: true })) continue;
    }
    expect(await counted.logits()).toEqual(await exact.logits());
    for (let layer = 0; layer < model.spec.layers; layer++) {
      for (const values of await talliesOf(counted, layer, 0))
        expect(values.reduce((sum, x) => sum + x, 0)).toBeCloseTo(100, 2);
      for (const values of await talliesOf(counted, layer, 1)) {
        const outside = values.length - WINDOW;
        expect(values.subarray(0, outside).every((x) => x === 0)).toBe(true);
        expect(values.subarray(outside).every((x) => x > 0)).toBe(true);
        expect(values.reduce((sum, x) => sum + x, 0)).toBeCloseTo(1, 4);
      }
    }
  });
});

/** A sparse prefill that is not to be asked. */
function choosing(): PrefillPart<'choosing'> {
  const create = (): BlockChooser => ({
    idleRows: 0,
    choose: () => {
      throw new Error('the layer has a window');
    },
    save: () => null,
    fork: create,
    dispose: () => undefined,
  });
  return freezePart({
    id: 'choosing',
    slot: 'prefill',
    needs: [],
    provides: [],
    lossy: true,
    options: {},
    figures: ['recall'],
    create,
  });
}

/** Rows of positions up to `last` leave all layers. */
async function forget(sequence: Sequence, last: number): Promise<void> {
  const { model, state } = sequence;
  const { layers, kvHeads } = model.spec;
  for (let layer = 0; layer < layers; layer++) {
    const kept: number[][] = [];
    for (let head = 0; head < kvHeads; head++) {
      const positions = await sequence.view().positions(layer, head);
      kept.push([...positions.keys()].filter((row) => (positions[row] ?? 0) > last));
    }
    const most = Math.max(...kept.map(({ length }) => length));
    const padded = kept.flatMap((rows) => [
      ...rows,
      ...new Array<number>(most - rows.length).fill(0),
    ]);
    using index = Tensor.from(model.device, Int32Array.from(padded), [kvHeads, most]);
    state.kv.compact(
      layer,
      index,
      kept.map(({ length }) => length),
    );
  }
}
