import { compose, loadModel } from '@accel/core';
import { describeDevices, writeTinyCheckpoint } from '@accel/testkit';
import { expect, it } from 'vitest';
import { streamingllm, type StreamingllmOptions } from '../src/index.js';

const CONTEXT = 64;
const PROMPT = 40;

describeDevices('tokens that can be drawn in a small context', (device) => {
  const drawn = async (options: StreamingllmOptions): Promise<number> => {
    using checkpoint = writeTinyCheckpoint({ contextLength: CONTEXT });
    using model = await loadModel(checkpoint.path, { device, dtype: 'float32', kvBytes: 1 << 20 });
    using sequence = model.sequence({ policy: compose(streamingllm(options)) });
    await sequence.append(new Int32Array(PROMPT).fill(5));
    let count = 0;
    for await (const event of sequence.generate({ maxTokens: 100, ignoreEos: true })) {
      count++;
      if (event.finish !== undefined) expect(event.finish).toBe('length');
    }
    return count;
  };

  it('without end when every token makes room for the next', async () => {
    expect(await drawn({ sink: 4, recent: 20, trim: 'token' })).toBe(100);
  });

  it('until the cache fills the context when nothing leaves during an answer', async () => {
    // 24 rows after the prompt; the last token drawn needs no row.
    expect(await drawn({ sink: 4, recent: 20, trim: 'prompt' })).toBe(CONTEXT - 24 + 1);
  });

  it('until the stream fills the context when positions are those of the stream', async () => {
    const options = { sink: 4, recent: 20, positions: 'original' } as const;
    expect(await drawn(options)).toBe(CONTEXT - PROMPT + 1);
  });
});
