import { defineConfig } from 'vitest/config';

const conditions = ['@accel/source'];

/** Settings every package's vitest.config.ts re-exports: tests read sources of sibling packages, not their dist. */
export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    // A native crash then kills one test file instead of the whole run.
    pool: 'forks',
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
