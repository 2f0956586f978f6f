import { compose } from '@accel/core';
import { streamTests } from '@accel/testkit';
import { h2o } from '../src/index.js';

streamTests('H2O', { policy: (capacity) => compose(h2o({ budget: { tokens: capacity } })) });
