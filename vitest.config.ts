import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    projects: ['{kernels,packages/*,examples/*,tools/*}/vitest.config.ts'],
    coverage: { provider: 'v8', include: ['kernels/ts/**/*.ts', 'packages/*/src/**/*.ts'] },
  },
});
