import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compose, loadModel, type Policy } from '@accel/core';
import { snapkv } from '@accel/snapkv';
import {
  byteTokens,
  describeDevices,
  draw,
  expectMoves,
  writeTinyCheckpoint,
} from '@accel/testkit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { kivi, method } from '../src/index.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'accel-saved-kivi-'));
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

describeDevices('a saved sequence with KIVI', (device) => {
  const policies: [string, Policy][] = [
    ['with 2 bits', compose(kivi({ bits: 2, residual: 32 }))],
    ['with 4 and 8 bits', compose(kivi({ keyBits: 4, valueBits: 8, residual: 64 }))],
    ['before anything is packed', compose(kivi({ residual: 512 }))],
    ['behind SnapKV', compose(snapkv({ budget: { tokens: 100 } }), kivi({ residual: 32 }))],
  ];

  it.each(policies)('%s has codes as they were and packs on', async (_, policy) => {
    using checkpoint = writeTinyCheckpoint({ headDim: 64 });
    using model = await loadModel(checkpoint.path, { device, dtype: 'float32', kvBytes: 64 << 20 });
    const [path, again] = [join(folder, 'one'), join(folder, 'again')];
    using sequence = model.sequence({ policy });
    // A value item is left part full.
    await sequence.append(byteTokens(203, 1));
    await draw(sequence, 5);
    await sequence.save(path);
    using restored = await model.restore(path, { policy });
    expect(restored.state.kv.layerRows(0)).toEqual(sequence.state.kv.layerRows(0));
    await restored.save(again);
    expect(readFileSync(again).equals(readFileSync(path))).toBe(true);
    for (const one of [sequence, restored]) {
      await draw(one, 70);
      await one.append(byteTokens(90, 2));
    }
    expect(restored.state.kv.layerRows(1)).toEqual(sequence.state.kv.layerRows(1));
    expect(await restored.logits()).toEqual(await sequence.logits());
    expect(await draw(restored, 6)).toEqual(await draw(sequence, 6));
    restored.dispose();
    sequence.dispose();
    expect(model.pool.usedBytes).toBe(0);
  });

  it('needs the same bits', async () => {
    using checkpoint = writeTinyCheckpoint({ headDim: 64 });
    using model = await loadModel(checkpoint.path, { device, dtype: 'float32', kvBytes: 64 << 20 });
    const path = join(folder, 'bits');
    using sequence = model.sequence({ policy: compose(kivi({ bits: 2 })) });
    await sequence.append(byteTokens(150, 3));
    await sequence.save(path);
    await expect(model.restore(path, { policy: compose(kivi({ bits: 4 })) })).rejects.toMatchObject(
      { code: 'ERR_ACCEL_SAVED_SEQUENCE' },
    );
    using restored = await model.restore(path, { methods: [method] });
    expect(await draw(restored, 4)).toEqual(await draw(sequence, 4));
  });

  if (device === 'cpu') return;
  it('moves from the CPU to this device and back', () =>
    expectMoves(device, compose(kivi({ bits: 2, residual: 32 }))));
});
