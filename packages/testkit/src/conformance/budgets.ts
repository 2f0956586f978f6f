import {
  compose,
  full,
  type BlockChooser,
  type ChannelsPart,
  type CodecPart,
  type CodecSetup,
  type Part,
  type PartSetup,
  type PrefillPart,
  type RowFormat,
  type Selector,
  type SelectPart,
  type Sequence,
} from '@accel/core';
import type { KvItems } from '@accel/kernels';
import { describe, expect, it } from 'vitest';
import { errorWith } from '../errors.js';
import { expectClose } from '../tolerance.js';
import { draw, expectRows, RowCount, tokens } from './helpers.js';
import { LONG_PROMPT, SHORT_PROMPT, SMALL, type Suite } from './types.js';

/** Rows, bytes and receipts. */
export function budgetTests(suite: Suite): void {
  const { policy, method, kernels } = suite;

  describe('budget', () => {
    it('keeps everything, and is exact, while the prompt fits', async () => {
      const prompt = tokens(SHORT_PROMPT, 10);
      using sequence = suite.model().sequence({ policy: policy(SMALL) });
      using reference = suite.model().sequence({ policy: full });
      await sequence.append(prompt);
      await reference.append(prompt);
      await expectRows(sequence, SHORT_PROMPT, 'after a short prompt');
      expectClose(
        await sequence.logits(),
        await reference.logits(),
        { abs: 1e-5, rel: 0 },
        'logits',
      );
      expect(await draw(sequence, 8)).toEqual(await draw(reference, 8));
    });

    it.each([SMALL - 1, SMALL, SMALL + 1, LONG_PROMPT, 3 * LONG_PROMPT + 7])(
      'keeps the agreed rows of a prompt of %i tokens, through decoding and later turns',
      async (length) => {
        using sequence = suite.model().sequence({ policy: policy(SMALL) });
        const expected = new RowCount(suite, SMALL);
        await sequence.append(tokens(length, 11));
        expected.append(length);
        await expectRows(sequence, expected.rows, 'after the prompt');

        // The last token drawn stays outside the cache until something follows it.
        await draw(sequence, 9);
        expected.decode(8);
        await expectRows(sequence, expected.rows, 'after decoding');

        await sequence.append(tokens(30, 12));
        expected.append(31);
        await expectRows(sequence, expected.rows, 'after turn 2');
        await draw(sequence, 5);
        expected.decode(4);
        await expectRows(sequence, expected.rows, 'after decoding in turn 2');
        expect(sequence.length).toBe(length + 9 + 30 + 5);
      },
    );

    it('measures bytes within 5 % of the arithmetic, and returns the rest to the pool', async () => {
      const capacity = 2048;
      const prompt = tokens(3000, 13);
      const model = suite.model();
      using sequence = model.sequence({ policy: policy(capacity) });
      await sequence.append(prompt);
      const { measured, arithmetic } = sequence.view().bytes();
      const expected = new RowCount(suite, capacity);
      expected.append(prompt.length);
      expectStorage(sequence);
      expect(arithmetic).toBe(bytesOf(sequence, expected.rows));
      expect(Math.abs(measured - arithmetic) / arithmetic).toBeLessThanOrEqual(0.05);
      expect(model.pool.usedBytes).toBe(measured);
    });
  });

  describe('receipt', () => {
    it('says what the parts did', async () => {
      using sequence = suite.model().sequence({ policy: policy(SMALL), strict: true });
      await sequence.append(tokens(LONG_PROMPT, 14));
      await draw(sequence, 4);
      const expected = new RowCount(suite, SMALL);
      expected.append(LONG_PROMPT);
      expected.decode(3);
      const receipt = sequence.receipt();
      const { layers, kvHeads, headDim } = suite.model().spec;

      expect(receipt.parts.map((part) => part.id)).toContain(method.id);
      for (const part of receipt.parts) expect(part.acted, part.id).toBeGreaterThan(0);
      expect(receipt.layers).toHaveLength(layers);
      for (const [layer, { rowsKept }] of receipt.layers.entries()) {
        expect(rowsKept).toEqual(new Array(kvHeads).fill(expected.rows[layer]));
      }
      expect(receipt.kv.measuredBytes).toBe(sequence.view().bytes().measured);
      expectStorage(sequence);
      expect(receipt.kv.arithmeticBytes).toBe(bytesOf(sequence, expected.rows));
      const fullRow = kvHeads * 2 * headDim * 4;
      expect(receipt.kv.fullBytes).toBe((LONG_PROMPT + 3) * layers * fullRow);
      expect(receipt.tokens).toEqual({ prefill: LONG_PROMPT, decode: 3 });
      expect(receipt.fallbacks).toEqual([]);
      for (const name of kernels) expect(receipt.kernels[name], name).toBeGreaterThan(0);
      expect(JSON.parse(JSON.stringify(receipt.policy))).toEqual(receipt.policy);
    });

    it('lets strict mode pass while nothing has to go', async () => {
      using sequence = suite.model().sequence({ policy: policy(SMALL), strict: true });
      await sequence.append(tokens(SHORT_PROMPT, 15));
      expect(sequence.receipt().parts[0]?.acted).toBe(0);
    });

    it('makes strict mode notice a part that does nothing', async () => {
      const broken = compose(...policy(SMALL).parts.map(disable));
      using sequence = suite.model().sequence({ policy: broken, strict: true });
      const prompt = sequence.append(tokens(LONG_PROMPT, 16));
      // Evicting is what the select part does, whose method may be another one.
      const idle = broken.parts.find(({ slot }) => slot === 'select')?.id ?? method.id;
      await expect(prompt).rejects.toThrow(errorWith('ERR_ACCEL_STRICT', idle));
    });
  });
}

/** After a long prompt rows are stored as the policy says, which {@link bytesOf} takes for granted. */
function expectStorage({ model, policy, state }: Sequence): void {
  const slots = new Set(policy.parts.map(({ slot }) => slot));
  const { layers, kvHeads } = model.spec;
  // Rows that never leave are where their numbers say.
  const { positions = 'stored' } = state.kv.shape;
  expect(positions, 'positions').toBe(slots.has('select') ? 'stored' : 'implied');
  const encodes = { keys: slots.has('codec') || slots.has('channels'), values: slots.has('codec') };
  for (let layer = 0; layer < layers; layer++) {
    for (let head = 0; head < kvHeads; head++) {
      const { keys, values } = state.kv.encodedRows(layer, head);
      const encoded = { keys: keys > 0, values: values > 0 };
      expect(encoded, `encoded rows, layer ${layer}, head ${head}`).toEqual(encodes);
    }
  }
}

/** `rows[layer]` rows in each head: plain keys and values, encoded ones by their share of an item, and records. */
function bytesOf({ model, state }: Sequence, rows: readonly number[]): number {
  const { headDim, positions = 'stored', tallies = 0, encoded = {} } = state.kv.shape;
  const items = (layout: KvItems | undefined, count: number): number =>
    layout === undefined
      ? 0
      : (layout.header ?? 0) + Math.floor((count * layout.bytes) / layout.rows);
  let bytes = 0;
  for (const [layer, count] of rows.entries()) {
    for (let head = 0; head < model.spec.kvHeads; head++) {
      const { keys, values } = state.kv.encodedRows(layer, head);
      bytes += (2 * count - keys - values) * headDim * 4;
      bytes += items(encoded.keys, keys) + items(encoded.values, values);
      if (positions === 'stored') bytes += count * 4 * (1 + tallies);
    }
  }
  return bytes;
}

/** The same part, which never evicts or encodes: the classic silent failure. */
function disable(part: Part): Part {
  if (part.slot === 'select') return disableSelect(part as SelectPart);
  if (part.slot === 'codec' || part.slot === 'channels')
    return disableFormat(part as CodecPart | ChannelsPart);
  if (part.slot === 'prefill') return disablePrefill(part as PrefillPart);
  return part;
}

function disablePrefill(part: PrefillPart): PrefillPart {
  const create = (setup: PartSetup): BlockChooser => {
    const { idleRows } = part.create(setup);
    const idle = (): BlockChooser => ({
      idleRows,
      choose: () => 'it does nothing',
      fork: idle,
      dispose: () => undefined,
    });
    return idle();
  };
  return { ...part, create };
}

function disableSelect(part: SelectPart): SelectPart {
  const create = (setup: PartSetup): Selector => {
    const real = part.create(setup);
    const idle = (): Selector => ({
      ...(real.idleRows !== undefined && { idleRows: real.idleRows }),
      prefillEnd: () => undefined,
      fork: idle,
      dispose: () => undefined,
    });
    return idle();
  };
  return { ...part, create };
}

function disableFormat<P extends CodecPart | ChannelsPart>(part: P): P {
  const format = (setup: CodecSetup): RowFormat =>
    Object.create(part.format(setup), { rules: { value: {} } }) as RowFormat;
  return { ...part, format };
}
