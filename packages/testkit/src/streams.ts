import { loadModel, type Policy } from '@accel/core';
import { expect, it } from 'vitest';
import { writeTinyCheckpoint } from './checkpoint.js';
import { tokens } from './conformance/helpers.js';
import { describeDevices } from './devices.js';

/** What {@link streamTests} needs to know about a policy that evicts while decoding. */
export interface StreamOptions {
  /** A policy that holds at most `capacity` rows per layer and kv head after every step. */
  readonly policy: (capacity: number) => Policy;
  /** Rows of a head over all layers, after every step. Default: `capacity` in each layer. */
  readonly total?: (capacity: number, layers: number) => number;
  /** Tokens to decode. Default 20,000. */
  readonly steps?: number;
}

const CAPACITY = 64;
const LAYERS = 2;
const PROMPT = 300;
/** Rows of a page, as the engine divides its pool. */
const PAGE_ROWS = 16;

/**
 * A stream of any length runs in constant memory: thousands of tokens are decoded, longer than any window of a test
 * model would need, and after each step the cache holds the same rows on the same number of pages, but for the ends of a
 * page list that wander over page borders. Registers the tests, once for each device of the machine.
 */
export function streamTests(title: string, options: StreamOptions): void {
  const { policy, steps = 20_000, total = (capacity, layers) => capacity * layers } = options;
  describeDevices(`${title} stream`, (device) => {
    it(`holds constant memory over ${steps} decoded tokens`, { timeout: 300_000 }, async () => {
      using checkpoint = writeTinyCheckpoint({ layers: LAYERS, contextLength: 1 << 16 });
      using model = await loadModel(checkpoint.path, {
        device,
        dtype: 'float32',
        kvBytes: 8 << 20,
      });
      using sequence = model.sequence({ policy: policy(CAPACITY) });
      await sequence.append(tokens(PROMPT, 31));
      const { kvHeads, headDim } = model.spec;
      const rows = (): number => {
        const view = sequence.view();
        return Array.from({ length: LAYERS }, (_, layer) => view.rows(layer, 0)).reduce(
          (sum, count) => sum + count,
          0,
        );
      };
      const used: number[] = [];
      const counts = new Set<number>();
      const generation = { maxTokens: steps, ignoreEos: true, temperature: 1, seed: 5 };
      let drawn = 0;
      for await (const { index } of sequence.generate(generation)) {
        drawn += 1;
        // A number without common factors with a page's rows, so that the ends of lists are seen everywhere.
        if (index % 97 !== 96) continue;
        used.push(model.pool.usedBytes);
        counts.add(rows());
      }
      expect(drawn).toBe(steps);
      expect([...counts]).toEqual([total(CAPACITY, LAYERS)]);

      const [least, most] = [Math.min(...used), Math.max(...used)];
      const page = PAGE_ROWS * headDim * 4;
      // Keys and values of each head begin, break off at the gap, go on and end on a page that is partly full.
      expect(most - least).toBeLessThanOrEqual(LAYERS * kvHeads * 3 * 2 * page);
      const lists = LAYERS * kvHeads * 3;
      const full = Math.ceil((2 * total(CAPACITY, LAYERS) * kvHeads) / PAGE_ROWS);
      expect(most).toBeLessThanOrEqual((full + 3 * lists) * page);

      for (let layer = 0; layer < LAYERS; layer++) {
        const positions = [...(await sequence.view().positions(layer, kvHeads - 1))];
        expect(positions).toEqual([...positions].sort((a, b) => a - b));
        expect(new Set(positions).size).toBe(positions.length);
        // The last token drawn is not in the cache yet.
        expect(positions.at(-1)).toBe(PROMPT + steps - 2);
      }
      expect((await sequence.logits()).every(Number.isFinite)).toBe(true);
    });
  });
}
