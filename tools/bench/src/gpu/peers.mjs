// Peers on the same device in the same run, as child processes: PyTorch's kernels (cuBLAS, cuDNN and flash attention)
// and Hugging Face transformers on the same model folder. Where there is no Python with torch, a line says so.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { LLAMA } from './shapes.mjs';
import { writeModel } from './write-model.mjs';

const SCRIPTS = resolve(import.meta.dirname, '../../../peers');

export async function peers(run) {
  const python = process.env.ACCEL_PYTHON ?? 'python3';
  const check =
    'import torch, sys; sys.exit(0 if torch.cuda.is_available() else "torch sees no GPU")';
  const { status, error, stderr } = spawnSync(python, ['-c', check], { encoding: 'utf8' });
  if (status !== 0) {
    const why = error?.message ?? stderr.trim().split('\n').at(-1);
    run.emit({
      group: 'peers',
      name: 'torch',
      skipped: `${python} cannot run torch on this GPU: ${why}`,
    });
    return;
  }
  const lengths = run.lengths.join(',');
  await run.part('peers', 'torch kernels', 20, () =>
    child(run, python, [
      'torch_kernels.py',
      '--lengths',
      lengths,
      ...(run.quick ? ['--quick'] : []),
    ]),
  );
  await run.part('peers', 'transformers', 50, async () => {
    if (!existsSync(join(run.dir, 'complete')))
      writeModel(run.dir, { ...LLAMA, layers: run.layers });
    await child(run, python, [
      'transformers_bench.py',
      run.dir,
      '--lengths',
      lengths,
      '--seconds',
      String(Math.floor(run.left())),
    ]);
  });
}

/** Runs a script and emits the JSON lines it prints. */
function child(run, python, [script, ...args]) {
  const seconds = Math.max(20, run.left() + 20);
  return new Promise((done, fail) => {
    const process = spawn(python, [join(SCRIPTS, script), ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: Math.round(1000 * seconds),
    });
    let errors = '';
    process.stderr.on('data', (chunk) => (errors = (errors + chunk).slice(-4000)));
    createInterface({ input: process.stdout }).on('line', (line) => {
      if (line.startsWith('{')) run.emit({ group: 'peers', ...JSON.parse(line) });
    });
    process.on('error', fail);
    process.on('close', (code, signal) => {
      if (code === 0) done();
      else
        fail(
          new Error(
            `${script} ended with ${signal ?? code}: ${errors.trim().split('\n').slice(-3).join(' | ')}`,
          ),
        );
    });
  });
}
