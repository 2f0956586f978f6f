import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    projects: ['{kernels,packages/*,examples/*,tools/*}/vitest.config.ts'],
    // Vitest's default leaves one core to itself, which on two cores is half of them.
    maxWorkers: availableParallelism(),
    coverage: { provider: 'v8', include: ['kernels/ts/**/*.ts', 'packages/*/src/**/*.ts'] },
  },
});
