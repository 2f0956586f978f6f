import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import {
  appendBatch,
  compose,
  cutRows,
  freezePart,
  full,
  generateBatch,
  loadModel,
  type CodecPart,
  type Model,
  type Policy,
  type SelectPart,
  type Selector,
  type Sequence,
} from '../../src/index.js';
import { expectFailure } from '../shared.js';
import { identity, marking, type Log } from './identity.js';
import { cascade, oldest } from './parts.js';
import { needleDir, someTokens } from './support.js';

// The codec stores rows as they are, so every sequence must draw what it would draw without one. On the CPU alone: its ops
// are those of a test library.
let model: Model;
beforeAll(async () => {
  model = await loadModel(needleDir, { device: 'cpu', dtype: 'float32' });
});
afterAll(() => {
  model.dispose();
});
afterEach(() => {
  expect(model.pool.usedBytes, 'pages still in use after the test').toBe(0);
});

const tokens = (count: number, seed?: number): Int32Array =>
  someTokens(count, model.spec.vocabSize, seed);

async function draw(sequence: Sequence, count: number): Promise<number[]> {
  const ids: number[] = [];
  for await (const { id } of sequence.generate({ maxTokens: count, ignoreEos: true })) ids.push(id);
  return ids;
}

/** Two turns with answers under a policy: everything that was drawn, and the last logits. */
async function conversation(policy: Policy): Promise<{ ids: number[]; logits: Float32Array }> {
  using sequence = model.sequence({ policy });
  await sequence.append(tokens(60));
  const ids = await draw(sequence, 10);
  await sequence.append(tokens(25, 2));
  ids.push(...(await draw(sequence, 10)));
  return { ids, logits: await sequence.logits() };
}

/** Encoded keys and values of a layer. */
const encodedOf = (sequence: Sequence, layer: number): [number, number] => {
  const { keys, values } = sequence.state.kv.encodedRows(layer, 1);
  return [keys, values];
};

test.each(['residualOnly', 'wholeGroups', 'reencode'] as const)(
  'packedRows: %s is refused before anything runs, because the engine does not carry it out',
  async (packedRows) => {
    const codec = freezePart({ ...identity({ residual: 8, block: 4 }), packedRows });
    await expectFailure(
      () => model.sequence({ policy: compose(codec) }),
      'ERR_ACCEL_POLICY',
      /identity .*packedRows: .*'forbidden' only/,
    );
  },
);

/** Keeps the oldest rows and the newest 4 of the first prompt, and says when it cuts. */
function cutting(rows: number, log: Log): SelectPart<'cutting', never> {
  const create = (): Selector => ({
    idleRows: rows,
    prefillEnd: (end) => {
      if (end.turn > 0) return;
      log.push(`cut ${end.layer}`);
      cutRows(end, rows - 4, end.rows - rows);
      end.report({ rowsIn: end.rows, rowsKept: rows });
    },
    fork: create,
    dispose: () => undefined,
  });
  return freezePart({
    id: 'cutting',
    slot: 'select',
    needs: [],
    provides: [],
    lossy: true,
    positions: 'original',
    options: { rows },
    create,
  });
}

describe('a codec', () => {
  test('changes no token when it stores rows as they are, in prompts, answers and later turns', async () => {
    const want = await conversation(full);
    for (const [residual, block] of [
      [16, 8],
      [1, 1],
      [70, 4],
      [0, 32],
    ] as const) {
      const got = await conversation(compose(identity({ residual, block })));
      expect(got, `${residual} ${block}`).toEqual(want);
    }
  });

  test('encodes what is old enough at the end of prompts and after every token', async () => {
    using sequence = model.sequence({ policy: compose(identity({ residual: 16, block: 8 })) });
    await sequence.append(tokens(10));
    expect(encodedOf(sequence, 7)).toEqual([0, 0]);
    const seen: [number, number][] = [];
    for await (const _ of sequence.generate({ maxTokens: 20, ignoreEos: true }))
      seen.push(encodedOf(sequence, 7));
    // After the step of the token: 11, 12, … rows; the last token waits.
    expect(seen.slice(5, 8)).toEqual([
      [0, 0],
      [0, 1],
      [0, 2],
    ]);
    expect(encodedOf(sequence, 0)).toEqual([8, 13]);
    await sequence.append(tokens(30, 3));
    expect(sequence.view().rows(3, 0)).toBe(60);
    expect(encodedOf(sequence, 3)).toEqual([40, 44]);
  });
});

describe('the order at the end of a layer', () => {
  const [residual, block] = [8, 4];

  test('is: channels look, rows leave, channels are chosen, keys are encoded', async () => {
    const log: Log = [];
    const options = { residual, block, log };
    using sequence = model.sequence({
      policy: compose(cutting(40, log), marking(options), identity(options)),
    });
    await sequence.append(tokens(60));
    const layer = (n: number): string[] => [
      ...[`observe ${n}: 3`, `cut ${n}`],
      ...[`choose ${n}: 32`, 'encode 32'],
    ];
    expect(log).toEqual(Array.from({ length: 8 }, (_, n) => layer(n)).flat());
    expect(encodedOf(sequence, 5)).toEqual([32, 32]);
    expect([...(await sequence.view().positions(5, 1))].slice(35)).toEqual([35, 56, 57, 58, 59]);
  });

  test('has the channels chosen once, by all rows while none is due', async () => {
    const log: Log = [];
    const options = { residual, block, log };
    using sequence = model.sequence({ policy: compose(marking(options), identity(options)) });
    await sequence.append(tokens(5));
    expect(log.slice(0, 2)).toEqual(['observe 0: 3', 'choose 0: 5']);
    expect(log).toHaveLength(16);
    log.length = 0;
    await sequence.append(tokens(40, 2));
    await draw(sequence, 3);
    expect(log.filter((entry) => /observe|choose/.test(entry))).toEqual([]);
    expect(encodedOf(sequence, 0)).toEqual([36, 39]);
  });

  test('goes by the rows that are kept, without a codec by all of them, and once', async () => {
    const log: Log = [];
    const policy = compose(cutting(40, log), marking({ residual, block, log }));
    using sequence = model.sequence({ policy, strict: true });
    await sequence.append(tokens(60));
    expect(log.slice(0, 4)).toEqual(['observe 0: 3', 'cut 0', 'choose 0: 40', 'encode 32']);
    log.length = 0;
    await draw(sequence, 3);
    await sequence.append(tokens(20, 2));
    // Its format holds keys of the first prompt only; attention reads both forms.
    expect(new Set(log)).toEqual(new Set(['attend']));
    expect(encodedOf(sequence, 2)).toEqual([32, 0]);
    expect(sequence.receipt().layers[0]).toMatchObject({
      encodedKeys: [32, 32],
      encodedValues: [0, 0],
    });
  });

  test('waits for the last cut of a budget part that decides later', async () => {
    const log: Log = [];
    const options = { residual, block, log };
    const policy = compose(oldest(100, 4), cascade(400), marking(options), identity(options));
    using sequence = model.sequence({ policy, strict: true });
    const observed = Array.from({ length: 8 }, (_, layer) => `observe ${layer}: 3`);
    let layers = 0;
    await sequence.append(tokens(300), {
      onProgress: () => {
        layers += 1;
        // The device is one layer behind, and layers are looked at when their work is enqueued.
        expect(log).toEqual(observed.slice(0, layers + 1));
      },
    });
    expect(layers).toBe(8);
    // 50 rows are left in every layer, and the rules are about those.
    const encoded = observed.flatMap((_, layer) => [`choose ${layer}: 40`, 'encode 42']);
    expect(log).toEqual([...observed, ...encoded]);
    for (let layer = 0; layer < 8; layer++) expect(encodedOf(sequence, layer)).toEqual([40, 42]);
    using plain = model.sequence({ policy: compose(oldest(100, 4), cascade(400)) });
    await plain.append(tokens(300));
    expect(await draw(sequence, 12)).toEqual(await draw(plain, 12));
  });
});

describe('a batch', () => {
  test('encodes with one op for all sequences whose rows are stored alike', async () => {
    const log: Log = [];
    const a = identity({ residual: 8, block: 4, log });
    const b = identity({ residual: 12, block: 6, log });
    const policies = [
      compose(a),
      full,
      compose(b),
      compose(a), // of another length
      compose(cutting(40, log), a), // stores positions
    ];
    const lengths = [30, 20, 25, 61, 60];
    const alone = [];
    for (const [i, policy] of policies.entries()) {
      using sequence = model.sequence({ policy });
      await sequence.append(tokens(lengths[i] ?? 0, i));
      alone.push(await draw(sequence, 8));
    }
    const sequences = policies.map((policy) => model.sequence({ policy }));
    await appendBatch(
      sequences.map((sequence, i) => ({ sequence, tokens: tokens(lengths[i] ?? 0, i) })),
    );
    log.length = 0;
    const together: number[][] = policies.map(() => []);
    for await (const { sequence, id } of generateBatch(sequences, {
      maxTokens: 8,
      ignoreEos: true,
    }))
      together[sequence]?.push(id);
    expect(together).toEqual(alone);
    // 7 steps, each for all layers: a's two sequences, b's, and the one with positions; always for as many rows.
    const encodes = log.filter((entry) => entry.startsWith('encode'));
    expect(encodes).toHaveLength(7 * 3);
    expect(new Set(encodes)).toEqual(new Set(['encode 4', 'encode 6']));
    expect(log.filter((entry) => entry === 'attend')).toHaveLength(7 * 8 * 4);
    const acted = sequences.map((sequence) => sequence.receipt().parts.at(-1)?.acted ?? 0);
    expect(acted[0]).toBe(8 + 7 * 8);
    expect(acted[1]).toBe(0);
    for (const sequence of sequences) sequence.dispose();
  });
});

describe('the receipt', () => {
  test('has the rows in each form, and bytes in their formats', async () => {
    using sequence = model.sequence({ policy: compose(identity({ residual: 20, block: 16 })) });
    await sequence.append(tokens(10));
    expect(sequence.receipt().parts[0]).toEqual({
      ...{ id: 'identity', slot: 'codec', acted: 0, idleRows: 20, notes: [] },
    });
    await sequence.append(tokens(43, 2));
    const { parts, layers, kv } = sequence.receipt();
    expect(parts[0]?.acted).toBe(8);
    expect(layers).toHaveLength(8);
    expect(layers[3]).toEqual({
      ...{ rowsIn: [53, 53], rowsKept: [53, 53] },
      ...{ encodedKeys: [32, 32], encodedValues: [33, 33] },
    });
    const { headDim } = model.spec;
    // Nothing is saved, and no positions are stored.
    expect(kv.arithmeticBytes).toBe(8 * 2 * 2 * 53 * headDim * 4);
    expect(kv.fullBytes).toBe(kv.arithmeticBytes);
    expect(kv.measuredBytes).toBe(sequence.view().bytes().measured);
    using plain = model.sequence();
    await plain.append(tokens(5));
    expect(plain.receipt().layers[0]).toEqual({ rowsIn: [5, 5], rowsKept: [5, 5] });
  });

  test('in strict mode: a codec may idle on few rows, also when a selection has left few', async () => {
    const codec = identity({ residual: 50, block: 1 });
    for (const policy of [compose(codec), compose(cutting(48, []), codec)]) {
      using sequence = model.sequence({ policy, strict: true });
      await sequence.append(tokens(policy.parts.length === 1 ? 50 : 90));
      expect(sequence.receipt().parts.at(-1)?.acted).toBe(0);
    }
  });

  test('in strict mode: a codec that should have acted is an error', async () => {
    const codec = identity({ residual: 16, block: 8 });
    const idle: CodecPart = {
      ...codec,
      format: (setup) => ({ ...codec.format(setup), rules: {} }),
    };
    using sequence = model.sequence({ policy: compose(idle), strict: true });
    await expectFailure(
      () => sequence.append(tokens(40)),
      'ERR_ACCEL_STRICT',
      'identity never acted on 40 rows (it may idle up to 16)',
    );
  });
});

describe('what belongs to a sequence', () => {
  const policy = (): Policy => compose(identity({ residual: 8, block: 4 }));

  test('an aborted turn leaves rows in the form they had', async () => {
    using sequence = model.sequence({ policy: policy() });
    await sequence.append(tokens(45));
    const before = { bytes: sequence.view().bytes(), encoded: encodedOf(sequence, 0) };
    const used = model.pool.usedBytes;
    const control = new AbortController();
    const aborted = sequence.append(tokens(200, 5), {
      signal: control.signal,
      onProgress: ({ layer }) => {
        if (layer === 3) control.abort();
      },
    });
    await expect(aborted).rejects.toMatchObject({ code: 'ERR_ACCEL_ABORTED' });
    expect({ bytes: sequence.view().bytes(), encoded: encodedOf(sequence, 0) }).toEqual(before);
    expect(model.pool.usedBytes).toBe(used);
    using reference = model.sequence();
    await reference.append(tokens(45));
    expect(await draw(sequence, 6)).toEqual(await draw(reference, 6));
  });

  test('an op that fails at the end of a prompt leaves the sequence as it was', async () => {
    const codec = identity({ residual: 8, block: 4 });
    let failing = true;
    const encode = (): never => {
      throw new TypeError('no such op');
    };
    const broken: CodecPart = {
      ...codec,
      format: (setup) => {
        const format = codec.format(setup);
        return { ...format, encode: (call) => (failing ? encode() : format.encode(call)) };
      },
    };
    using sequence = model.sequence({ policy: compose(broken) });
    await expect(sequence.append(tokens(45))).rejects.toThrow('no such op');
    expect(sequence.length).toBe(0);
    expect(model.pool.usedBytes).toBe(0);
    failing = false;
    await sequence.append(tokens(45));
    expect(encodedOf(sequence, 0)).toEqual([36, 37]);
  });

  test('a fork encodes on by itself', async () => {
    const run = async (sequence: Sequence, seed: number): Promise<number[]> => {
      await sequence.append(tokens(21, seed));
      return await draw(sequence, 9);
    };
    const reference = async (...seeds: number[]): Promise<number[][]> => {
      using sequence = model.sequence();
      const drawn = [];
      for (const seed of seeds) drawn.push(await run(sequence, seed));
      return drawn;
    };
    using parent = model.sequence({ policy: policy() });
    const first = await run(parent, 1);
    const encoded = encodedOf(parent, 4);
    using child = parent.fork();
    const second = await run(child, 2);
    expect(encodedOf(parent, 4)).toEqual(encoded);
    expect([first, second]).toEqual(await reference(1, 2));
    expect([first, await run(parent, 3)]).toEqual(await reference(1, 3));
    parent.dispose();
    expect([first, second, await run(child, 4)]).toEqual(await reference(1, 2, 4));
  });

  test('positions are stored when rows may leave', async () => {
    using plain = model.sequence({ policy: policy() });
    using cut = model.sequence({
      policy: compose(cutting(20, []), identity({ residual: 8, block: 4 })),
    });
    for (const sequence of [plain, cut]) await sequence.append(tokens(30));
    expect(plain.state.kv.shape.positions).toBe('implied');
    expect(cut.state.kv.shape.positions).toBe('stored');
    expect([...(await plain.view().positions(0, 1))]).toEqual(
      Array.from({ length: 30 }, (_, i) => i),
    );
    expect([...(await cut.view().positions(0, 1))].slice(15)).toEqual([15, 26, 27, 28, 29]);
  });
});
