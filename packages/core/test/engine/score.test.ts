import { afterAll, beforeAll, expect, test } from 'vitest';
import { appendBatch, loadModel, scoreBatch, type Model, type Sequence } from '../../src/index.js';
import { describeDevices } from '../devices.js';
import { largestDifference, needleDir, someTokens } from './support.js';

// float32 logits of the embedded model spread over about 30; two orders of summation differ by a few 1e-5.
const SAME = 1e-3;

describeDevices('scoring given tokens', (device) => {
  let model: Model;
  beforeAll(async () => {
    model = await loadModel(needleDir, { device, dtype: 'float32' });
  });
  afterAll(() => {
    model.dispose();
  });

  const tokens = (count: number, seed?: number): Int32Array =>
    someTokens(count, model.spec.vocabSize, seed);

  async function started(prompt: Int32Array): Promise<Sequence> {
    const sequence = model.sequence();
    await sequence.append(prompt);
    return sequence;
  }

  function logSoftmax(logits: Float32Array, id: number): number {
    const most = logits.reduce((a, b) => Math.max(a, b));
    const sum = logits.reduce((total, logit) => total + Math.exp(logit - most), 0);
    return (logits[id] ?? 0) - most - Math.log(sum);
  }

  test('gives what one pass over all tokens gives', async () => {
    const [prompt, target] = [tokens(70), tokens(12, 7)];
    using whole = model.sequence();
    await whole.append([...prompt, ...target], { logits: target.length + 1 });
    const logits = await whole.logits();
    const vocab = model.spec.vocabSize;
    const expected = Array.from(target, (id, i) =>
      logSoftmax(logits.subarray(i * vocab, (i + 1) * vocab), id),
    );
    using sequence = await started(prompt);
    const scores = await sequence.score(target);
    expect(largestDifference(scores, expected)).toBeLessThan(SAME);
    expect(Math.max(...scores)).toBeLessThan(0);
    expect(sequence.length).toBe(prompt.length + target.length);
    // The last one has not gone through the model yet, as after a generation.
    expect(sequence.receipt().tokens.decode).toBe(target.length - 1);
  });

  test('leaves the sequence where drawing the same tokens leaves it', async () => {
    using drawing = await started(tokens(50));
    using scored = drawing.fork();
    const drawn: number[] = [];
    for await (const { id } of drawing.generate({ maxTokens: 6, ignoreEos: true })) drawn.push(id);
    const scores = await scored.score(drawn);
    expect(scores).toHaveLength(6);
    const next = async (sequence: Sequence): Promise<number[]> => {
      const ids: number[] = [];
      for await (const { id } of sequence.generate({ maxTokens: 6, ignoreEos: true })) ids.push(id);
      return ids;
    };
    expect(await next(scored)).toEqual(await next(drawing));
  });

  test('packs sequences with targets of different lengths, and goes on after a drawn token', async () => {
    using a = model.sequence();
    using b = model.sequence();
    await appendBatch([
      { sequence: a, tokens: tokens(40) },
      { sequence: b, tokens: tokens(90, 3) },
    ]);
    for await (const _ of b.generate({ maxTokens: 1 }));
    using aloneA = a.fork();
    using aloneB = b.fork();
    const [first, second] = await scoreBatch([
      { sequence: a, tokens: tokens(3, 5) },
      { sequence: b, tokens: tokens(9, 6) },
    ]);
    expect(largestDifference(first ?? [], await aloneA.score(tokens(3, 5)))).toBeLessThan(SAME);
    expect(largestDifference(second ?? [], await aloneB.score(tokens(9, 6)))).toBeLessThan(SAME);
  });

  test('refuses what cannot be scored and frees the sequences again', async () => {
    using empty = model.sequence();
    await expect(empty.score([1])).rejects.toMatchObject({ code: 'ERR_ACCEL_ARGUMENT' });
    using sequence = await started(tokens(10));
    await expect(sequence.score([])).rejects.toMatchObject({ code: 'ERR_ACCEL_ARGUMENT' });
    await expect(sequence.score([model.spec.vocabSize])).rejects.toMatchObject({
      code: 'ERR_ACCEL_ARGUMENT',
    });
    const tooMany = new Int32Array(model.spec.contextLength);
    await expect(sequence.score(tooMany)).rejects.toMatchObject({
      code: 'ERR_ACCEL_PROMPT_TOO_LONG',
    });
    const stop = AbortSignal.abort();
    await expect(sequence.score([1, 2], { signal: stop })).rejects.toMatchObject({
      code: 'ERR_ACCEL_ABORTED',
    });
    expect(await sequence.score([1, 2])).toHaveLength(2);
  });
});
