import { compose } from '@accel/core';
import { h2o } from '@accel/h2o';
import { streamingllm } from '@accel/streamingllm';
import { streamTests } from '@accel/testkit';
import { cam } from '../src/index.js';

streamTests('StreamingLLM with CaM', {
  policy: (capacity) => compose(streamingllm({ sink: 4, recent: capacity - 4 }), cam()),
});

streamTests('H2O with CaM', {
  policy: (capacity) => compose(h2o({ budget: { tokens: capacity } }), cam()),
});
