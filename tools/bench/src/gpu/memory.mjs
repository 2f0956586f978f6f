// What the 8B shape takes on this card beside what `estimateMemory` says. Every line is a process of its own: a process that has
// measured one shape keeps memory for the next. Weights are zeros in a sparse file, on which no number here depends.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { LLAMA } from './shapes.mjs';
import { writeModel } from './write-model.mjs';

/** Prompts, sequences and policies (POLICIES of memory-run.mjs); the ones that say most come first. */
const SHAPES = [
  { tokens: 32768, batch: 1, policy: 'full' },
  { tokens: 131072, batch: 1, policy: 'full' },
  { tokens: 131072, batch: 1, policy: 'SnapKV' },
  { tokens: 32768, batch: 1, policy: 'KIVI' },
  { tokens: 4096, batch: 8, policy: 'full', together: true },
  { tokens: 32768, batch: 1, policy: 'PyramidKV' },
  { tokens: 32768, batch: 8, policy: 'SnapKV' },
  { tokens: 32768, batch: 1, policy: 'H2O' },
  { tokens: 131072, batch: 1, policy: 'XAttention' },
  { tokens: 32768, batch: 1, policy: 'CakeKV' },
  { tokens: 32768, batch: 1, policy: 'StreamingLLM' },
  { tokens: 32768, batch: 1, policy: 'SnapKV+KIVI' },
  { tokens: 4096, batch: 1, policy: 'full' },
  { tokens: 32768, batch: 1, policy: 'FlexPrefill' },
];
/** Seconds that a process may take, loading included. */
const LIMIT = 90;

export async function memoryBench(run) {
  const dir = `${run.dir}-sparse`;
  await run.part('memory', 'model', 20, async () => {
    writeModel(dir, { ...LLAMA, layers: run.layers, sparse: true });
    for (const shape of SHAPES) {
      const name = `${shape.policy}, ${shape.batch} × ${shape.tokens}`;
      await run.part('memory', name, 30, async () => {
        run.emit({ group: 'memory', ...(await measure({ dir, device: run.device, ...shape })) });
      });
    }
  });
}

/** The one line that memory-run.mjs prints. */
function measure(shape) {
  return new Promise((done, fail) => {
    const started = spawn(
      process.execPath,
      [`${import.meta.dirname}/memory-run.mjs`, JSON.stringify(shape)],
      { stdio: ['ignore', 'pipe', 'inherit'], timeout: 1000 * LIMIT },
    );
    let line;
    createInterface({ input: started.stdout }).on('line', (text) => {
      if (text.startsWith('{')) line = JSON.parse(text);
    });
    started.on('close', (code, signal) => {
      if (code === 0 && line !== undefined) done(line);
      else fail(new Error(`the process ended with ${signal ?? code}`));
    });
  });
}
