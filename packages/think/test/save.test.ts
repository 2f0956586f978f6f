import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compose, loadModel, type Model, type Policy } from '@accel/core';
import { snapkv } from '@accel/snapkv';
import {
  byteTokens,
  describeDevices,
  draw,
  errorWith,
  expectMoves,
  writeTinyCheckpoint,
} from '@accel/testkit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { keptChannels, settingsFrom } from '../src/settings.js';
import { think } from '../src/index.js';

const HEAD_DIM = 64;

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'accel-saved-think-'));
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

describeDevices('a saved sequence with ThinK', (device) => {
  const withModel = async (body: (model: Model) => Promise<void>): Promise<void> => {
    using checkpoint = writeTinyCheckpoint({ headDim: HEAD_DIM });
    using model = await loadModel(checkpoint.path, { device, dtype: 'float32', kvBytes: 64 << 20 });
    await body(model);
    expect(model.pool.usedBytes).toBe(0);
  };
  const policies: [string, Policy][] = [
    ['alone', compose(think())],
    ['behind SnapKV', compose(snapkv({ budget: { tokens: 64 } }), think({ ratio: 0.6 }))],
  ];

  it.each(policies)('%s has pruned keys and their channels as they were', (_, policy) =>
    withModel(async (model) => {
      const [path, again] = [join(folder, 'one'), join(folder, 'again')];
      using sequence = model.sequence({ policy, strict: true });
      await sequence.append(byteTokens(203, 1));
      await draw(sequence, 5);
      await sequence.save(path);
      using restored = await model.restore(path, { policy, strict: true });
      expect(restored.state.kv.encodedRows(1, 1).keys).toBeGreaterThan(30);
      await restored.save(again);
      expect(readFileSync(again).equals(readFileSync(path))).toBe(true);
      for (const one of [sequence, restored]) {
        await draw(one, 6);
        await one.append(byteTokens(50, 2));
      }
      expect(await restored.logits()).toEqual(await sequence.logits());
      expect(await draw(restored, 6)).toEqual(await draw(sequence, 6));
    }),
  );

  it('is refused when a header names channels that no key has', () =>
    withModel(async (model) => {
      const policy = compose(think());
      const path = join(folder, 'channels');
      using sequence = model.sequence({ policy });
      await sequence.append(byteTokens(100, 3));
      await sequence.save(path);
      const bytes = readFileSync(path);
      const length = bytes.readUInt32LE(12);
      const header = JSON.parse(bytes.toString('utf8', 48, 48 + length)) as {
        layers: { rows: number[]; encodedKeys: number[] }[];
        payload: { sha256: string };
      };
      const payload = bytes.subarray(48 + length);
      const { rows, encodedKeys } = header.layers[0] ?? { rows: [], encodedKeys: [] };
      // Behind the plain keys and values of the first head.
      const at = (2 * (rows[0] ?? 0) - (encodedKeys[0] ?? 0)) * HEAD_DIM * 4;
      const last = at + 2 * (keptChannels(settingsFrom({}), HEAD_DIM) - 1);
      for (const [channel, place] of [
        [HEAD_DIM, last],
        [65535, last],
        [60, at],
      ] as const) {
        const bad = Buffer.from(payload);
        bad.writeUInt16LE(channel, place);
        const sha256 = createHash('sha256').update(bad).digest('hex');
        const json = Buffer.from(
          JSON.stringify({ ...header, payload: { ...header.payload, sha256 } }),
        );
        const prefix = Buffer.from(bytes.subarray(0, 48));
        createHash('sha256').update(json).digest().copy(prefix, 16);
        writeFileSync(path, Buffer.concat([prefix, json, bad]));
        await expect(model.restore(path, { policy })).rejects.toThrow(
          errorWith('ERR_ACCEL_SAVED_SEQUENCE', 'channels cannot be'),
        );
      }
    }));

  if (device === 'cpu') return;
  it.each(policies)('%s moves from the CPU to this device and back', (_, policy) =>
    expectMoves(device, policy),
  );
});
