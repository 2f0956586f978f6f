import { defineConfig } from 'tsup';

export default defineConfig({
  entry: ['src/index.ts', 'src/prompt-thread.ts'],
  format: ['esm'],
  dts: false,
  sourcemap: true,
  clean: true,
  target: 'node20',
  tsconfig: 'tsconfig.build.json',
});
