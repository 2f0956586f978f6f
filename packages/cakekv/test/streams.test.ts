import { compose } from '@accel/core';
import { streamTests } from '@accel/testkit';
import { cakekv, type CakekvOptions } from '../src/index.js';

const policy = (options: CakekvOptions) => (capacity: number) =>
  compose(...cakekv({ budget: { tokens: capacity }, observe: 16, ...options }));

// Shares differ; they add up to the budget.
streamTests('CakeKV', { policy: policy({}) });
streamTests('CakeKV in reference order', { policy: policy({ decodeOrder: 'reference' }) });
