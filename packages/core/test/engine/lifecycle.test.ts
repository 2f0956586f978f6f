import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  AccelError,
  appendBatch,
  generateBatch,
  loadModel,
  type Model,
  type Sequence,
} from '../../src/index.js';
import { describeDevices } from '../devices.js';
import { largestDifference, needleDir, someTokens } from './support.js';

// float32 logits of the embedded model spread over about 30; two orders of summation differ by a few 1e-5.
const SAME = 1e-3;

describeDevices('the life of a sequence', (device) => {
  let model: Model;
  beforeAll(async () => {
    model = await loadModel(needleDir, { device, dtype: 'float32' });
  });
  afterAll(() => {
    model.dispose();
  });

  const tokens = (count: number, seed?: number): Int32Array =>
    someTokens(count, model.spec.vocabSize, seed);

  async function draw(sequence: Sequence, count: number): Promise<number[]> {
    const ids: number[] = [];
    for await (const { id } of sequence.generate({ maxTokens: count, ignoreEos: true }))
      ids.push(id);
    return ids;
  }

  describe('one sequence', () => {
    test('several turns equal one prompt, whatever the chunks', async () => {
      const prompt = tokens(300);
      using whole = model.sequence();
      await whole.append(prompt);
      using turns = model.sequence();
      for (const [from, to] of [
        [0, 1],
        [1, 40],
        [40, 299],
        [299, 300],
      ])
        await turns.append(prompt.subarray(from, to));
      expect(largestDifference(await turns.logits(), await whole.logits())).toBeLessThan(SAME);
      expect(turns.length).toBe(300);
      expect(turns.turns).toBe(4);
      expect(await draw(turns, 8)).toEqual(await draw(whole, 8));
    });

    test('generate goes on where it stopped, and the next turn sees what was drawn', async () => {
      using once = model.sequence();
      await once.append(tokens(50));
      const all = await draw(once, 12);
      using twice = model.sequence();
      await twice.append(tokens(50));
      expect([...(await draw(twice, 5)), ...(await draw(twice, 7))]).toEqual(all);
      using replay = model.sequence();
      await replay.append([...tokens(50), ...all, 7, 8, 9]);
      await twice.append([7, 8, 9]);
      expect(twice.length).toBe(replay.length);
      expect(largestDifference(await twice.logits(), await replay.logits())).toBeLessThan(SAME);
    });

    test('leaving the loop early keeps the sequence usable', async () => {
      using sequence = model.sequence();
      await sequence.append(tokens(20));
      const seen: number[] = [];
      for await (const { id } of sequence.generate({ maxTokens: 10, ignoreEos: true })) {
        seen.push(id);
        if (seen.length === 3) break;
      }
      using fresh = model.sequence();
      await fresh.append(tokens(20));
      expect([...seen, ...(await draw(sequence, 4))]).toEqual(await draw(fresh, 7));
    });

    test('a seed repeats a draw and another seed changes it', async () => {
      const run = async (seed: number): Promise<number[]> => {
        using sequence = model.sequence();
        await sequence.append(tokens(30));
        const ids: number[] = [];
        for await (const { id } of sequence.generate({
          maxTokens: 20,
          temperature: 2,
          seed,
          ignoreEos: true,
        }))
          ids.push(id);
        return ids;
      };
      expect(await run(1)).toEqual(await run(1));
      expect(await run(1)).not.toEqual(await run(2));
    });

    test('stop strings never show, not even in part', async () => {
      using sequence = model.sequence();
      await sequence.append(
        model.tokenizer.encode('The grass is green. The sky is', { addSpecial: true }),
      );
      using copy = sequence.fork();
      let plain = '';
      for await (const { text } of sequence.generate({ maxTokens: 24, ignoreEos: true }))
        plain += text;
      const stop = plain.slice(6, 10);
      let cut = '';
      let finish: string | undefined;
      for await (const event of copy.generate({ maxTokens: 24, ignoreEos: true, stop: [stop] })) {
        cut += event.text;
        finish = event.finish;
      }
      expect(finish).toBe('stop');
      expect(cut).toBe(plain.slice(0, plain.indexOf(stop)));
    });
  });

  describe('several sequences', () => {
    test('a batch of different lengths equals its rows run alone', async () => {
      const prompts = [tokens(5, 2), tokens(130, 3), tokens(1, 4), tokens(64, 5)];
      const batch = prompts.map(() => model.sequence());
      await appendBatch(
        batch.map((sequence, i) => ({ sequence, tokens: prompts[i] as Int32Array })),
      );
      const drawn: number[][] = prompts.map(() => []);
      const logits = await Promise.all(batch.map((sequence) => sequence.logits()));
      for await (const { sequence, id } of generateBatch(batch, { maxTokens: 6, ignoreEos: true }))
        drawn[sequence]?.push(id);
      for (const [i, prompt] of prompts.entries()) {
        using alone = model.sequence();
        await alone.append(prompt);
        expect(largestDifference(logits[i] as Float32Array, await alone.logits())).toBeLessThan(
          SAME,
        );
        expect(drawn[i]).toEqual(await draw(alone, 6));
      }
      for (const sequence of batch) sequence.dispose();
    });

    test('a fork goes its own way', async () => {
      using parent = model.sequence();
      await parent.append(tokens(37));
      using child = parent.fork();
      using reference = model.sequence();
      await reference.append(tokens(37));
      await child.append(tokens(90, 9));
      await draw(child, 5);
      expect(await draw(parent, 6)).toEqual(await draw(reference, 6));
    });

    test('sequences used at the same time do not mix', async () => {
      const run = async (seed: number): Promise<number[]> => {
        using sequence = model.sequence();
        await sequence.append(tokens(60, seed));
        return await draw(sequence, 8);
      };
      const alone = [await run(11), await run(12), await run(13)];
      expect(await Promise.all([run(11), run(12), run(13)])).toEqual(alone);
    });

    test('pages go back to the pool', async () => {
      const before = model.pool.usedBytes;
      const sequence = model.sequence();
      await sequence.append(tokens(200));
      const { measured, arithmetic } = sequence.view().bytes();
      expect(model.pool.usedBytes - before).toBe(measured);
      expect(measured / arithmetic).toBeLessThan(1.1);
      const fork = sequence.fork();
      sequence.dispose();
      expect(model.pool.usedBytes - before).toBe(measured);
      fork.dispose();
      expect(model.pool.usedBytes).toBe(before);
    });
  });

  describe('what goes wrong says so', () => {
    const code = async (action: () => unknown): Promise<string> => {
      try {
        await action();
      } catch (error) {
        if (AccelError.isInstance(error)) return error.code;
        throw error;
      }
      return 'no error';
    };

    test('bad tokens, bad options, wrong order of calls', async () => {
      using sequence = model.sequence();
      expect(await code(() => sequence.logits())).toBe('ERR_ACCEL_ARGUMENT');
      expect(await code(() => draw(sequence, 1))).toBe('ERR_ACCEL_ARGUMENT');
      expect(await code(() => sequence.append([]))).toBe('ERR_ACCEL_ARGUMENT');
      expect(await code(() => sequence.append([4096]))).toBe('ERR_ACCEL_ARGUMENT');
      expect(await code(() => sequence.append([1.5]))).toBe('ERR_ACCEL_ARGUMENT');
      await sequence.append([1, 2, 3]);
      for (const options of [
        { maxTokens: 0 },
        { temperature: -1 },
        { topP: 0 },
        { minP: 1 },
        { topK: -1 },
      ]) {
        expect(await code(() => sequence.generate(options).next())).toBe('ERR_ACCEL_ARGUMENT');
      }
      sequence.dispose();
      expect(await code(() => sequence.append([1]))).toBe('ERR_ACCEL_DISPOSED');
    });

    test('a prompt longer than the model window', async () => {
      using sequence = model.sequence();
      expect(await code(() => sequence.append(tokens(model.spec.contextLength + 1)))).toBe(
        'ERR_ACCEL_PROMPT_TOO_LONG',
      );
      expect(sequence.length).toBe(0);
      await sequence.append(tokens(10));
      expect(sequence.length).toBe(10);
    });

    test('two things at once on one sequence', async () => {
      using sequence = model.sequence();
      const first = sequence.append(tokens(30));
      expect(await code(() => sequence.append([1]))).toBe('ERR_ACCEL_BUSY');
      await first;
      expect(sequence.length).toBe(30);
    });

    test('an abort in the middle of a prompt leaves the sequence as it was', async () => {
      const before = model.pool.usedBytes;
      using sequence = model.sequence();
      await sequence.append(tokens(25));
      const held = model.pool.usedBytes;
      const control = new AbortController();
      const onProgress = ({ layer }: { layer: number }): void => {
        if (layer === 3) control.abort();
      };
      expect(
        await code(() => sequence.append(tokens(400, 5), { signal: control.signal, onProgress })),
      ).toBe('ERR_ACCEL_ABORTED');
      expect(sequence.length).toBe(25);
      expect(model.pool.usedBytes).toBe(held);
      using reference = model.sequence();
      await reference.append(tokens(25));
      expect(await draw(sequence, 4)).toEqual(await draw(reference, 4));
      expect(before).toBeLessThan(held);
    });

    test('a pool that is too small names what it lacks and recovers', async () => {
      using small = await loadModel(needleDir, { device, dtype: 'float32', kvBytes: 1 << 20 });
      using sequence = small.sequence();
      expect(await code(() => sequence.append(tokens(2000)))).toBe('ERR_ACCEL_OUT_OF_MEMORY');
      expect(small.pool.usedBytes).toBe(0);
      await sequence.append(tokens(20));
      expect(sequence.length).toBe(20);
    });
  });

  test('the event loop stays free during a long prefill', async () => {
    using sequence = model.sequence();
    let ticks = 0;
    const timer = setInterval(() => ticks++, 5);
    const started = performance.now();
    await sequence.append(tokens(device === 'cpu' ? 2048 : 16_000));
    const elapsed = performance.now() - started;
    clearInterval(timer);
    // A blocked loop would tick once or twice. Half of the ideal rate leaves room for a busy machine.
    expect(ticks).toBeGreaterThan(Math.min(10, elapsed / 5 / 2));
  });
});
