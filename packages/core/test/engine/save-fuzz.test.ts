import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { AccelError, compose, loadModel, type JsonValue, type Model } from '../../src/index.js';
import { describeDevices } from '../devices.js';
import { counting } from './parts.js';
import { putTogether, seal, takeApart, type SavedFile } from './saved-file.js';
import { needleDir, someTokens } from './support.js';

const policy = compose(counting([{ kind: 'attention', reduce: 'mean', of: 'stream' }]));
/** What a restore may take beside the bytes of the file: part-full pages. */
const MARGIN = 1 << 20;

/** Reproducible random numbers. */
class Dice {
  #state: number;
  constructor(seed: number) {
    this.#state = seed;
  }
  below(count: number): number {
    this.#state = (Math.imul(this.#state, 1664525) + 1013904223) >>> 0;
    return Math.floor((this.#state / 2 ** 32) * count);
  }
  of<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T;
  }
}

/** Bytes that differ from the file's, or are fewer or more. */
function scramble(file: Buffer, front: number, dice: Dice): Buffer {
  const bytes = Buffer.from(file);
  switch (dice.below(5)) {
    case 0:
      return bytes.subarray(0, dice.below(bytes.length));
    case 1:
      return Buffer.concat([bytes, bytes.subarray(dice.below(bytes.length))]);
    case 2:
      // Of the prefix and the header.
      for (let i = dice.below(4); i >= 0; i--) bytes[dice.below(front)] = dice.below(256);
      return bytes;
    case 3:
      for (let i = dice.below(64); i >= 0; i--) bytes[dice.below(bytes.length)] = dice.below(256);
      return bytes;
    default:
      return bytes.subarray(dice.below(200));
  }
}

const strange: readonly JsonValue[] = [
  ...[0, -1, 1, 2, 7, 1.5, 1e300, 2 ** 31, 2 ** 30, 2 ** 53, -(2 ** 40)],
  ...[null, '', 'x', true, [], {}, [[[]]], { __proto__: 1 }, 'stored', 'implied'],
];

/** The same JSON with something else in one place. */
function change(value: JsonValue, dice: Dice): JsonValue {
  if (typeof value !== 'object' || value === null || dice.below(12) === 0) return dice.of(strange);
  if (isList(value)) {
    const list = [...value];
    const place = dice.below(list.length + 1);
    if (dice.below(8) === 0 || place === list.length) {
      if (dice.below(2) === 0) list.push(list[0] ?? 0);
      else list.pop();
    } else list[place] = change(list[place] ?? null, dice);
    return list;
  }
  const keys = Object.keys(value);
  if (keys.length === 0 || dice.below(16) === 0) return { ...value, more: 1 };
  const key = dice.of(keys);
  const changed = dice.below(16) === 0 ? undefined : change(value[key] ?? null, dice);
  return { ...value, [key]: changed };
}

function isList(value: JsonValue): value is readonly JsonValue[] {
  return Array.isArray(value);
}

/** Files that a hostile writer could make: the checksums are right. */
function forge({ header, payload }: SavedFile, dice: Dice): Buffer {
  if (dice.below(4) > 0) {
    const changed = change(header, dice);
    const whole = typeof changed === 'object' && changed !== null ? changed : { changed };
    return putTogether({ header: whole as SavedFile['header'], payload });
  }
  const bytes = Buffer.from(payload);
  for (let i = dice.below(40); i >= 0; i--) {
    const word = 4 * dice.below(bytes.length / 4);
    bytes.writeUInt32LE(
      dice.of([0, 1, 0x7fc00000, 0xff800000, 0x80000000, dice.below(2 ** 32)]),
      word,
    );
  }
  return putTogether({ header, payload: bytes });
}

describeDevices('a saved sequence that was changed', (device) => {
  let model: Model;
  let folder: string;
  let good: string;
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'accel-fuzz-'));
    good = join(folder, 'good');
    model = await loadModel(needleDir, { device, dtype: 'float32' });
    using sequence = model.sequence({ policy });
    await sequence.append(someTokens(12, model.spec.vocabSize));
    for await (const _ of sequence.generate({ maxTokens: 3, ignoreEos: true })) continue;
    await sequence.save(good);
  });
  afterAll(() => {
    model.dispose();
    rmSync(folder, { recursive: true });
  });

  /** Restores and goes on. @returns the code of the error, if there is one; any other error is thrown */
  async function attempt(bytes: Buffer): Promise<string> {
    const path = join(folder, 'changed');
    writeFileSync(path, bytes);
    model.pool.resetPeak();
    try {
      using sequence = await model.restore(path, { policy });
      await sequence.append([1, 2, 3]);
      for await (const _ of sequence.generate({ maxTokens: 2, ignoreEos: true })) continue;
      return 'none';
    } catch (error) {
      if (!AccelError.isInstance(error)) throw error;
      return error.code;
    } finally {
      expect(model.pool.usedBytes).toBe(0);
      expect(model.pool.peakBytes).toBeLessThan(2 * bytes.length + MARGIN);
    }
  }

  test('by accident is refused', { timeout: 300_000 }, async () => {
    const file = readFileSync(good);
    const front = 48 + file.readUInt32LE(12);
    const dice = new Dice(20_261_127);
    for (let run = 0; run < 1000; run++) {
      const bytes = scramble(file, front, dice);
      if (bytes.equals(file)) continue;
      expect(await attempt(bytes), `run ${String(run)}`).toBe('ERR_ACCEL_SAVED_SEQUENCE');
    }
    expect(await attempt(file)).toBe('none');
  });

  test('by intent is refused, or is another sequence', { timeout: 300_000 }, async () => {
    const file = takeApart(good);
    const dice = new Dice(7);
    const codes = new Map<string, number>();
    for (let run = 0; run < 1000; run++) {
      const code = await attempt(forge(file, dice));
      codes.set(code, (codes.get(code) ?? 0) + 1);
    }
    expect(codes.get('ERR_ACCEL_SAVED_SEQUENCE')).toBeGreaterThan(600);
    expect(codes.get('none')).toBeGreaterThan(10);
  });

  test('into a header that is nested too deeply, or is too long, is refused', async () => {
    const { payload } = takeApart(good);
    for (const header of [
      `{"parts":{"select":{"state":${'['.repeat(1e6)}${']'.repeat(1e6)}}}}`,
      `{"policy":${'{"a":'.repeat(5e5)}1${'}'.repeat(5e5)}}`,
      `{"layers":[${'[],'.repeat(1e6)}[]]}`,
      ' '.repeat(5 << 20),
    ])
      expect(await attempt(seal(header, payload))).toBe('ERR_ACCEL_SAVED_SEQUENCE');
  });
});
