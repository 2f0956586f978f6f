import { join } from 'node:path';
import { compose, full, loadModel } from '@accel/core';
import {
  describeDevices,
  generated,
  readSafetensors,
  tokenMajor,
  writeTinyCheckpoint,
} from '@accel/testkit';
import { ops, Tensor } from '@accel/kernels';
import { expect, it } from 'vitest';
import { snapkv } from '../src/index.js';
import { referencePool } from '../src/reference.js';
import type { Prompt } from './selection.js';
import { votes } from './votes.js';

const [HEADS, KV_HEADS, DIM, HIDDEN, THETA] = [4, 2, 16, 32, 10_000];
const [TOKENS, WINDOW, CAPACITY] = [230, 24, 70];

/** Rotated queries of the first layer at `positions`, `[heads, positions, dim]`, in double precision from the weights. */
function firstQueries(path: string, ids: Int32Array, positions: readonly number[]): Float32Array {
  const weights = readSafetensors(join(path, 'model.safetensors'));
  const embed = weights.get('model.embed_tokens.weight')?.data as Float32Array;
  const project = weights.get('model.layers.0.self_attn.q_proj.weight')?.data as Float32Array;
  const out = new Float32Array(HEADS * positions.length * DIM);
  for (const [i, position] of positions.entries()) {
    const id = ids[position] ?? 0;
    const x = [...embed.subarray(id * HIDDEN, (id + 1) * HIDDEN)];
    const norm = Math.sqrt(x.reduce((sum, value) => sum + value * value, 0) / HIDDEN + 1e-5);
    for (let head = 0; head < HEADS; head++) {
      const q = Array.from({ length: DIM }, (_, c) => {
        const row = project.subarray((head * DIM + c) * HIDDEN, (head * DIM + c + 1) * HIDDEN);
        return x.reduce((sum, value, j) => sum + (value / norm) * (row[j] ?? 0), 0);
      });
      for (let c = 0; c < DIM / 2; c++) {
        const angle = position * THETA ** ((-2 * c) / DIM);
        const [a = 0, b = 0] = [q[c], q[c + DIM / 2]];
        const at = (head * positions.length + i) * DIM;
        out[at + c] = a * Math.cos(angle) - b * Math.sin(angle);
        out[at + c + DIM / 2] = b * Math.cos(angle) + a * Math.sin(angle);
      }
    }
  }
  return out;
}

describeDevices('SnapKV inside the engine', (device) => {
  it('keeps in the first layer what the weights say, window over two chunks', async () => {
    using checkpoint = writeTinyCheckpoint();
    // The last chunk has 230 - 4 · 54 = 14 tokens: the window begins in the chunk before.
    using model = await loadModel(checkpoint.path, {
      device,
      dtype: 'float32',
      kvBytes: 16 << 20,
      chunkTokens: 54,
    });
    const ids = Int32Array.from(generated(77, TOKENS), (x) => Math.floor((x + 1) * 127));

    using whole = model.sequence({ policy: full });
    await whole.append(ids);
    using keys = Tensor.empty(model.device, 'float32', [KV_HEADS, TOKENS, DIM]);
    ops.kvRead(model.stream, keys, null, null, whole.state.kv.kv(0));
    const last = Array.from({ length: WINDOW }, (_, i) => TOKENS - WINDOW + i);
    const prompt: Prompt = {
      queries: firstQueries(checkpoint.path, ids, last),
      keys: (await keys.read(model.stream)) as Float32Array,
      heads: HEADS,
      kvHeads: KV_HEADS,
      tokens: TOKENS,
      window: WINDOW,
      dim: DIM,
    };
    expect(tokenMajor(prompt.keys, [KV_HEADS, TOKENS, DIM]).some((x) => x !== 0)).toBe(true);

    for (const pool of [
      { kind: 'avg', size: 5 },
      { kind: 'avg', size: 1 },
    ] as const) {
      const part = snapkv({ budget: { tokens: CAPACITY }, observe: WINDOW, pool });
      using sequence = model.sequence({ policy: compose(part) });
      await sequence.append(ids);
      for (const [head, scores] of votes(prompt, 'mean').entries()) {
        const pooled = referencePool(Float32Array.from(scores), 1, scores.length, pool);
        const best = [...pooled.keys()].sort(
          (a, b) => (pooled[b] ?? 0) - (pooled[a] ?? 0) || a - b,
        );
        const want = best.slice(0, CAPACITY - WINDOW).sort((a, b) => a - b);
        expect([...(await sequence.view().positions(0, head))]).toEqual([...want, ...last]);
      }
    }
  });

  it('compresses every turn when asked to, and a short turn votes with all its queries', async () => {
    using checkpoint = writeTinyCheckpoint();
    using model = await loadModel(checkpoint.path, {
      device,
      dtype: 'float32',
      kvBytes: 16 << 20,
    });
    const part = snapkv({ budget: { tokens: CAPACITY }, observe: WINDOW, turns: 'every' });
    using sequence = model.sequence({ policy: compose(part) });
    for (const [turn, count] of [TOKENS, 9, 150].entries()) {
      await sequence.append(new Int32Array(count).fill(turn + 1));
      const positions = [...(await sequence.view().positions(1, 1))];
      expect(positions).toHaveLength(CAPACITY);
      const window = Math.min(count, WINDOW);
      const last = Array.from({ length: window }, (_, i) => sequence.length - window + i);
      expect(positions.slice(-window)).toEqual(last);
    }
  });

  it('never lets a share go below the window and one row', async () => {
    using checkpoint = writeTinyCheckpoint();
    using model = await loadModel(checkpoint.path, {
      device,
      dtype: 'float32',
      kvBytes: 16 << 20,
    });
    const part = snapkv({ budget: { keep: 0.1 }, observe: WINDOW });
    for (const [count, kept] of [
      [5, 5],
      [WINDOW + 1, WINDOW + 1],
      [TOKENS, WINDOW + 1],
      [400, 40],
    ] as const) {
      using sequence = model.sequence({ policy: compose(part) });
      await sequence.append(Int32Array.from(generated(3, count), (x) => Math.floor((x + 1) * 127)));
      expect(sequence.view().rows(0, 1)).toBe(kept);
    }
  });
});
