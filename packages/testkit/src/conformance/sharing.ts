import { appendBatch, full, generateBatch, type Policy, type Sequence } from '@accel/core';
import { describe, expect, it } from 'vitest';
import { expectClose } from '../tolerance.js';
import { draw, expectRows, keptRows, tokens } from './helpers.js';
import { LONG_PROMPT, SMALL, type Suite } from './types.js';

const LOGITS = { abs: 2e-4, rel: 0 };

/** Several sequences side by side. */
export function sharingTests(suite: Suite): void {
  const { policy } = suite;

  describe('batch', () => {
    it('gives each sequence what it gets alone, whatever its length and its neighbours', async () => {
      const cases: { prompt: Int32Array; policy: Policy }[] = [
        { prompt: tokens(24, 30), policy: policy(SMALL) },
        { prompt: tokens(LONG_PROMPT, 31), policy: policy(SMALL) },
        { prompt: tokens(90, 32), policy: full },
        { prompt: tokens(2 * LONG_PROMPT + 3, 33), policy: policy(SMALL + 16) },
      ];
      const alone = [];
      for (const { prompt, policy: own } of cases) {
        using sequence = suite.model().sequence({ policy: own });
        await sequence.append(prompt);
        const logits = await sequence.logits();
        alone.push({ logits, rows: await keptRows(sequence), ids: await draw(sequence, 10) });
      }

      const sequences = cases.map((entry) => suite.model().sequence({ policy: entry.policy }));
      try {
        await appendBatch(
          sequences.map((sequence, i) => ({ sequence, tokens: cases[i]?.prompt ?? [] })),
        );
        const together = [];
        for (const sequence of sequences) {
          together.push({
            logits: await sequence.logits(),
            rows: await keptRows(sequence),
            ids: [] as number[],
          });
        }
        for await (const event of generateBatch(sequences, { maxTokens: 10, ignoreEos: true })) {
          together[event.sequence]?.ids.push(event.id);
        }
        for (const [i, { logits, rows, ids }] of together.entries()) {
          expect(rows, `rows of sequence ${i}`).toEqual(alone[i]?.rows);
          expect(ids, `ids of sequence ${i}`).toEqual(alone[i]?.ids);
          expectClose(logits, alone[i]?.logits ?? [], LOGITS, `logits of sequence ${i}`);
        }
      } finally {
        for (const sequence of sequences) sequence.dispose();
      }
    });
  });

  describe('fork', () => {
    const begin = async (): Promise<Sequence> => {
      const sequence = suite.model().sequence({ policy: policy(SMALL) });
      await sequence.append(tokens(LONG_PROMPT, 34));
      return sequence;
    };

    it('does not disturb its parent', async () => {
      using undisturbed = await begin();
      const want = await draw(undisturbed, 20);
      const wantRows = await keptRows(undisturbed);

      using parent = await begin();
      const before = await keptRows(parent);
      const fork = parent.fork();
      await fork.append(tokens(150, 35));
      await draw(fork, 20);
      expect(await keptRows(parent)).toEqual(before);
      const ids = await draw(parent, 10);
      fork.dispose();
      expect([...ids, ...(await draw(parent, 10))]).toEqual(want);
      expect(await keptRows(parent)).toEqual(wantRows);
    });

    it('goes on as its parent would have, also when the parent is gone', async () => {
      using undisturbed = await begin();
      const want = await draw(undisturbed, 20);
      const parent = await begin();
      using fork = parent.fork();
      parent.dispose();
      expect(await draw(fork, 20)).toEqual(want);
    });

    it('shares pages with its parent', async () => {
      using parent = await begin();
      const used = suite.model().pool.usedBytes;
      using fork = parent.fork();
      expect(suite.model().pool.usedBytes).toBe(used);
      const rows = Array.from({ length: suite.model().spec.layers }, (_, layer) =>
        parent.view().rows(layer, 0),
      );
      await expectRows(fork, rows, 'in the fork');
    });
  });

  describe('disposal', () => {
    it('gives every page back, after an aborted turn too', async () => {
      const { pool } = suite.model();
      const sequence = suite.model().sequence({ policy: policy(SMALL) });
      await sequence.append(tokens(LONG_PROMPT, 36));
      const used = pool.usedBytes;
      const rows = await keptRows(sequence);
      const controller = new AbortController();
      const aborted = sequence.append(tokens(LONG_PROMPT, 37), {
        signal: controller.signal,
        onProgress: () => controller.abort(),
      });
      await expect(aborted).rejects.toMatchObject({ code: 'ERR_ACCEL_ABORTED' });
      expect(await keptRows(sequence)).toEqual(rows);
      expect(pool.usedBytes).toBe(used);
      sequence.dispose();
      expect(pool.usedBytes).toBe(0);
    });

    it('refuses to be used afterwards', async () => {
      const sequence = await (async () => {
        using gone = suite.model().sequence({ policy: policy(SMALL) });
        await gone.append(tokens(8, 38));
        return gone;
      })();
      await expect(sequence.append([1])).rejects.toMatchObject({ code: 'ERR_ACCEL_DISPOSED' });
    });
  });
}
