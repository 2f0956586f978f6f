import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import {
  compose,
  freezePart,
  loadModel,
  parseSaved,
  type JsonValue,
  type LayerEnd,
  type Model,
  type Policy,
  type RestoreOptions,
  type Selector,
  type SelectPart,
  type Sequence,
} from '../../src/index.js';
import { describeDevices } from '../devices.js';
import { expectFailure } from '../shared.js';
import { cascade, counting, oldest, talliesOf } from './parts.js';
import { putTogether, takeApart } from './saved-file.js';
import { needleDir, someTokens } from './support.js';

/** Keeps the first 3 rows and a number of new ones that it is told by the first prompt, as StreamingLLM does. */
function sliding(extra: Partial<Selector> = {}): SelectPart<'sliding', never> {
  const make = (recent: number | undefined): Selector => {
    let kept = recent;
    const cut = (end: LayerEnd): void => {
      kept ??= Math.floor(end.rows / 4);
      const gone = end.rows - 3 - kept;
      if (gone > 0) end.kv.drop(end.layer, 3, gone);
      end.report({ rowsIn: end.rows, rowsKept: end.kv.rows(end.layer, 0), note: 'slid' });
    };
    return {
      prefillEnd: cut,
      decodeEnd: cut,
      save: () => kept ?? null,
      fork: () => make(kept),
      dispose: () => undefined,
      ...extra,
    };
  };
  return freezePart({
    id: 'sliding',
    slot: 'select',
    needs: [],
    provides: [],
    lossy: true,
    positions: 'original',
    evicts: 'everyStep',
    options: {},
    create: (_, saved) => make(parseSaved('Sliding', z.int().min(1), saved)),
  });
}

const attention = counting([
  { kind: 'attention', reduce: 'mean', of: 'stream' },
  { kind: 'lastAttention', reduce: 'max' },
]);

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'accel-saved-'));
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});
const at = (name: string): string => join(folder, name);

async function draw(sequence: Sequence, count: number): Promise<number[]> {
  const ids: number[] = [];
  for await (const { id } of sequence.generate({ maxTokens: count, ignoreEos: true })) ids.push(id);
  return ids;
}

describeDevices('a saved sequence', (device) => {
  let model: Model;
  beforeAll(async () => {
    model = await loadModel(needleDir, { device, dtype: 'float32' });
  });
  afterAll(() => {
    expect(model.pool.usedBytes).toBe(0);
    model.dispose();
  });
  const tokens = (count: number, seed?: number): Int32Array =>
    someTokens(count, model.spec.vocabSize, seed);
  const rowsOf = (sequence: Sequence): unknown =>
    Array.from({ length: model.spec.layers }, (_, layer) => sequence.state.kv.layerRows(layer));

  /** A sequence with a prompt and a few drawn tokens behind it, beside the one that a file made of it. */
  async function twins(
    policy: Policy | undefined,
    options: RestoreOptions = policy === undefined ? {} : { policy },
  ): Promise<[Sequence, Sequence]> {
    const path = at('twin');
    const sequence = model.sequence({ ...(policy && { policy }), strict: true });
    await sequence.append(tokens(150), { logits: 2 });
    await draw(sequence, 5);
    await sequence.save(path);
    const restored = await model.restore(path, { ...options, strict: true });
    expect([restored.length, restored.turns, restored.pending]).toEqual([
      sequence.length,
      sequence.turns,
      sequence.pending,
    ]);
    expect(rowsOf(restored)).toEqual(rowsOf(sequence));
    expect(await restored.logits()).toEqual(await sequence.logits());
    const { kernels: _, ...receipt } = restored.receipt();
    expect(receipt).toEqual({
      ...receipt,
      policy: sequence.receipt().policy,
      parts: sequence.receipt().parts,
      tokens: sequence.receipt().tokens,
      seconds: sequence.receipt().seconds,
    });
    return [sequence, restored];
  }

  /** Both go on, and stay the same to the last bit. */
  async function expectSameFuture([one, other]: [Sequence, Sequence]): Promise<void> {
    expect(await draw(other, 6)).toEqual(await draw(one, 6));
    for (const sequence of [one, other]) await sequence.append(tokens(40, 9));
    expect(await other.logits()).toEqual(await one.logits());
    expect(await draw(other, 6)).toEqual(await draw(one, 6));
    expect(rowsOf(other)).toEqual(rowsOf(one));
    expect(await other.logits()).toEqual(await one.logits());
    one.dispose();
    other.dispose();
  }

  describe('goes on where it was', () => {
    test('with the whole cache, and needs to be told nothing', async () => {
      await expectSameFuture(await twins(undefined));
    });

    test('with several logits, before anything was drawn', async () => {
      using sequence = model.sequence();
      await sequence.append(tokens(30), { logits: 7 });
      await sequence.save(at('logits'));
      using restored = await model.restore(at('logits'));
      const logits = await restored.logits();
      expect(logits).toHaveLength(7 * model.spec.vocabSize);
      expect(logits).toEqual(await sequence.logits());
      expect(await draw(restored, 4)).toEqual(await draw(sequence, 4));
    });

    test('with the numbers that follow rows', async () => {
      const [one, other] = await twins(compose(attention));
      const both = async (): Promise<void> => {
        for (const layer of [0, 7]) {
          for (const which of [0, 1])
            expect(await talliesOf(other, layer, which)).toEqual(
              await talliesOf(one, layer, which),
            );
        }
      };
      await both();
      expect(await draw(other, 3)).toEqual(await draw(one, 3));
      await both();
      await expectSameFuture([one, other]);
    });

    test('with a gap, which the file does not have, and with what its selector remembers', async () => {
      const pair = await twins(compose(sliding()));
      expect(pair[1].receipt().parts[0]?.notes).toEqual(['slid']);
      const positions = await pair[1].view().positions(7, 1);
      expect([...positions]).toEqual([...(await pair[0].view().positions(7, 1))]);
      expect(positions[3]).toBeGreaterThan(3);
      await expectSameFuture(pair);
    });

    test('with budgets of layers', async () => {
      const policy = compose(oldest(100, 4), cascade(400));
      const pair = await twins(policy);
      const budgets = pair.map(({ state }) => [0, 7].map((layer) => state.cuts.budget(layer)));
      expect(budgets[0]).toEqual([50, 50]);
      expect(budgets[1]).toEqual(budgets[0]);
      await expectSameFuture(pair);
    });

    test('as a fork, whose pages stay shared', async () => {
      using parent = model.sequence();
      await parent.append(tokens(100));
      using fork = parent.fork();
      await draw(fork, 3);
      const before = model.pool.usedBytes;
      await Promise.all([parent.save(at('parent')), fork.save(at('fork'))]);
      expect(model.pool.usedBytes).toBe(before);
      using one = await model.restore(at('parent'));
      using other = await model.restore(at('fork'));
      expect(await draw(other, 4)).toEqual(await draw(fork, 4));
      expect(await draw(one, 4)).toEqual(await draw(parent, 4));
    });

    test('with a policy made of the methods that there are', async () => {
      const method = {
        id: 'sliding',
        title: 'Sliding',
        paper: '',
        slots: ['select'],
        options: z.object({}),
        fromConfig: () => [sliding()],
        presets: { paper: '', loom: '' },
      } as const;
      await expectSameFuture(await twins(compose(sliding()), { methods: [method] }));
    });
  });

  test('takes the bytes of its rows and little more, in pieces', async () => {
    using sequence = model.sequence();
    // 1.5 MB a layer.
    await sequence.append(tokens(1500));
    let pieces = 0;
    await sequence.save(at('size'), { onProgress: () => (pieces += 1) });
    expect(pieces).toBeGreaterThan(2 * model.spec.layers);
    const { arithmetic } = sequence.view().bytes();
    const { length } = readFileSync(at('size'));
    expect(length).toBeGreaterThan(arithmetic);
    expect(length).toBeLessThan(arithmetic + 4 * model.spec.vocabSize + 4096);
    using restored = await model.restore(at('size'));
    await expectSameFuture([sequence, restored]);
  });

  test('reports progress, and an abort leaves nothing behind', async () => {
    using sequence = model.sequence();
    await sequence.append(tokens(300));
    const seen: [number, number][] = [];
    writeFileSync(at('progress'), 'older');
    const controller = new AbortController();
    const aborted = sequence.save(at('progress'), {
      signal: controller.signal,
      onProgress: ({ savedBytes, totalBytes }) => {
        seen.push([savedBytes, totalBytes]);
        if (seen.length === 2) controller.abort();
      },
    });
    await expectFailure(() => aborted, 'ERR_ACCEL_ABORTED');
    expect(readFileSync(at('progress'), 'utf8')).toBe('older');
    expect(readdirSync(folder).filter((name) => name.endsWith('.tmp'))).toEqual([]);
    await sequence.save(at('progress'));
    expect(seen[0]?.[1]).toBe(takeApart(at('progress')).payload.length);

    const used = model.pool.usedBytes;
    const loading = new AbortController();
    const restore = model.restore(at('progress'), {
      signal: loading.signal,
      onProgress: ({ loadedBytes, totalBytes }) => {
        if (loadedBytes > totalBytes / 2) loading.abort();
      },
    });
    await expectFailure(() => restore, 'ERR_ACCEL_ABORTED');
    expect(model.pool.usedBytes).toBe(used);
    expect(await draw(sequence, 2)).toHaveLength(2);
  });

  describe('says what is wrong', () => {
    let good: string;
    const written = (name: string, bytes: Uint8Array): string => {
      writeFileSync(at(name), bytes);
      return at(name);
    };
    beforeAll(async () => {
      good = at('good');
      using sequence = model.sequence();
      await sequence.append(tokens(20));
      await sequence.save(good);
    });

    test('when there is nothing to save, or the sequence is busy', async () => {
      using sequence = model.sequence();
      await expectFailure(() => sequence.save(at('never')), 'ERR_ACCEL_ARGUMENT', /no tokens/);
      await sequence.append(tokens(9));
      const saving = sequence.save(at('busy'));
      await expectFailure(() => sequence.append([1]), 'ERR_ACCEL_BUSY', /while save is running/);
      await saving;
      await sequence.append([1]);
      expect(existsSync(at('never'))).toBe(false);
    });

    test('when a part has a state that cannot be saved', async () => {
      const create = (): Selector => ({
        prefillEnd: () => undefined,
        fork: create,
        dispose: () => undefined,
      });
      const mute = freezePart({ ...attention, id: 'mute', create });
      using sequence = model.sequence({ policy: compose(mute) });
      await sequence.append(tokens(9));
      await expectFailure(
        () => sequence.save(at('mute')),
        'ERR_ACCEL_POLICY',
        /with mute \(slot select\) cannot be saved: its state has no save/,
      );
    });

    test('about files that are none', async () => {
      await expectFailure(() => model.restore(at('nowhere')), 'ERR_ACCEL_FILE', /ENOENT/);
      await expectFailure(() => model.restore(folder), 'ERR_ACCEL_FILE', /not a regular file/);
      using sequence = model.sequence();
      await sequence.append(tokens(9));
      await expectFailure(() => sequence.save(at('no/folder')), 'ERR_ACCEL_FILE', /ENOENT/);
    });

    const bytesOf = (change: (bytes: Buffer) => Buffer | number): Buffer => {
      const bytes = readFileSync(good);
      const changed = change(bytes);
      return typeof changed === 'number' ? bytes : changed;
    };
    test.each<[string, RegExp, (bytes: Buffer) => Buffer | number]>([
      ['nothing', /0 bytes long, too short/, () => Buffer.alloc(0)],
      ['another kind of file', /is not a saved sequence/, (bytes) => bytes.writeUInt8(0x7b, 0)],
      [
        'a later version',
        /version 2 of the format.*reads version 1/,
        (bytes) => bytes.writeUInt8(2, 8),
      ],
      ['a header that is too long', /claims a header of/, (bytes) => bytes.writeUInt32LE(5e6, 12)],
      [
        'a changed header',
        /header that does not have its checksum/,
        (bytes) => bytes.writeUInt8(65, 99),
      ],
      [
        'changed rows',
        /rows that do not have their checksum/,
        (bytes) => bytes.writeUInt8((bytes.at(-9000) ?? 0) ^ 1, bytes.length - 9000),
      ],
      ['a missing end', /bytes of rows and logits/, (bytes) => bytes.subarray(0, -4)],
      ['more behind the end', /bytes of rows and logits/, (b) => Buffer.concat([b, b])],
    ])('%s', async (name, message, change) => {
      const path = written(name, bytesOf(change));
      await expectFailure(() => model.restore(path), 'ERR_ACCEL_SAVED_SEQUENCE', path, message);
      expect(model.pool.usedBytes).toBe(0);
    });

    test('another policy, or none', async () => {
      using sequence = model.sequence({ policy: compose(sliding()) });
      await sequence.append(tokens(60));
      await sequence.save(at('policy'));
      const restore =
        (options: RestoreOptions = {}) =>
        (): Promise<Sequence> =>
          model.restore(at('policy'), options);
      await expectFailure(restore(), 'ERR_ACCEL_POLICY', /policy sliding\. Give restore\(\)/);
      await expectFailure(restore({ methods: [] }), 'ERR_ACCEL_METHOD_UNKNOWN', /sliding/);
      await expectFailure(
        restore({ policy: compose(attention) }),
        'ERR_ACCEL_SAVED_SEQUENCE',
        /in slot select it had sliding {}, and the one given has counting {}/,
      );
      // The same document, but rows that are stored in another way.
      const counted = compose(freezePart({ ...attention, id: 'sliding' }));
      await expectFailure(
        restore({ policy: counted }),
        'ERR_ACCEL_SAVED_SEQUENCE',
        /stores rows as {"tallies":0,.*as {"tallies":2/,
      );
    });

    test('a state that its part does not know', async () => {
      using sequence = model.sequence({ policy: compose(sliding()) });
      await sequence.append(tokens(60));
      await sequence.save(at('state'));
      const { header, payload } = takeApart(at('state'));
      const saved = (state: JsonValue): Uint8Array =>
        putTogether({
          header: { ...header, parts: { select: { state, acted: 1, notes: [] } } },
          payload,
        });
      for (const state of ['15', 0, { recent: 15 }]) {
        await expectFailure(
          () => model.restore(written('bad', saved(state)), { policy: compose(sliding()) }),
          'ERR_ACCEL_SAVED_SEQUENCE',
          /saved state of Sliding is not valid/,
        );
      }
    });

    test('rows that cannot be, under checksums that are right', async () => {
      using sequence = model.sequence({ policy: compose(attention) });
      await sequence.append(tokens(20));
      await sequence.save(at('rows'));
      const { header, payload } = takeApart(at('rows'));
      const records = 2 * 20 * 64 * 4; // behind keys and values of the first head
      const bad = (change: (bytes: Buffer) => number): Buffer => {
        const bytes = Buffer.from(payload);
        change(bytes);
        return putTogether({ header, payload: bytes });
      };
      const policy = compose(attention);
      for (const [bytes, message] of [
        [bad((bytes) => bytes.writeInt32LE(7, records)), /row 1 has position 1/],
        [bad((bytes) => bytes.writeInt32LE(-7, records)), /row 0 has position -7/],
        [bad((bytes) => bytes.writeFloatLE(NaN, records + 4)), /row 0, tally 0 is NaN/],
      ] as const) {
        await expectFailure(
          () => model.restore(written('bad', bytes), { policy }),
          'ERR_ACCEL_SAVED_SEQUENCE',
          message,
        );
      }
    });

    test('another model, by the field', async () => {
      const copy = at('model');
      cpSync(needleDir, copy, { recursive: true });
      const config = JSON.parse(readFileSync(join(copy, 'config.json'), 'utf8')) as object;
      const other = async (
        field: RegExp,
        dtype: 'float32' | 'bfloat16',
        change: object = {},
      ): Promise<void> => {
        const named = { _name_or_path: 'needle', ...config, ...change };
        writeFileSync(join(copy, 'config.json'), JSON.stringify(named));
        using another = await loadModel(copy, { device, dtype });
        await expectFailure(() => another.restore(good), 'ERR_ACCEL_SAVED_SEQUENCE', field);
      };
      await other(/another model: dtype is "float32" there and "bfloat16" here/, 'bfloat16');
      await other(/another model: ropeTheta is 100000 there and 5000 here/, 'float32', {
        rope_theta: 5000,
      });
      await other(/another model: name is/, 'float32', { _name_or_path: 'another' });
      const weights = readFileSync(join(copy, 'model.safetensors'));
      const length = Number(weights.readBigUInt64LE(0));
      const places = JSON.parse(weights.toString('utf8', 8, 8 + length)) as Record<
        string,
        { data_offsets: [number, number] }
      >;
      const place = places['model.layers.3.self_attn.v_proj.weight'] ?? { data_offsets: [0, 0] };
      weights.writeUInt16LE(0x3f80, 8 + length + place.data_offsets[0]);
      writeFileSync(join(copy, 'model.safetensors'), weights);
      await other(/another model: weights is/, 'float32');
    });
  });

  if (device === 'cpu') return;
  test('moves from the CPU to this device and back, with the same bytes', async () => {
    using cpu = await loadModel(needleDir, { device: 'cpu', dtype: 'float32' });
    using gpu = await loadModel(needleDir, { device, dtype: 'float32' });
    const policy = compose(attention);
    for (const [from, to] of [
      [cpu, gpu],
      [gpu, cpu],
    ] as const) {
      using sequence = from.sequence({ policy });
      await sequence.append(someTokens(200, from.spec.vocabSize));
      await sequence.save(at('there'));
      using restored = await to.restore(at('there'), { policy });
      await restored.save(at('here'));
      expect(readFileSync(at('here')).equals(readFileSync(at('there')))).toBe(true);
      // The first token comes from logits in the file; later ones from kernels that round in their own ways.
      expect(await draw(restored, 1)).toEqual(await draw(sequence, 1));
      expect(await draw(restored, 8)).toHaveLength(8);
    }
  });
});
