import { compose } from '@accel/core';
import { streamTests } from '@accel/testkit';
import { streamingllm } from '../src/index.js';

streamTests('StreamingLLM', {
  policy: (capacity) => compose(streamingllm({ sink: 4, recent: capacity - 4 })),
});

streamTests('StreamingLLM at original positions', {
  policy: (capacity) =>
    compose(streamingllm({ sink: 4, recent: capacity - 4, positions: 'original' })),
});
