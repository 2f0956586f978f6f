// `pnpm bench:gpu`: the CUDA backend on this machine, as JSON lines and tables. Ceilings first (what a plain copy and a
// plain GEMM reach here), then kernels as shares of them, a Llama-3.1-8B-shaped model, and peers in the same run. Every
// part is a process of its own, so that none finds memory that another one keeps.
//
//   node tools/bench/src/gpu/main.mjs [--only kernels|model|methods|codecs|sparse|memory|peers] [--lengths 4096,8192] [--quick] [--out file.jsonl]
import { spawn } from 'node:child_process';
import { appendFileSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { Device } from '@accel/kernels';
import { Command, Option } from 'commander';
import { peers } from './peers.mjs';
import { PARTS, Run } from './run.mjs';
import { renderTables } from './table.mjs';

const program = new Command('bench:gpu')
  .description(
    'Benchmarks of the CUDA backend: ceilings, kernels, a model of 8 billion parameters, peers',
  )
  .addOption(
    new Option('--only <part>', 'one part; ceilings are always measured').choices(PARTS.slice(1)),
  )
  .option('--lengths <list>', 'tokens of prompts and caches', numbers)
  .option('--quick', 'fewer lengths and repetitions: under 4 minutes', false)
  .option('--seconds <n>', 'start nothing new after this (default 540, quick 220)', Number)
  .option('--device <id>', 'what to measure', 'cuda')
  .option('--dir <folder>', 'where the model is written, 16 GB', '/tmp/accel-bench-model')
  .option('--layers <n>', 'layers of the model', Number, 32)
  .option('--out <file>', 'also write the JSON lines here')
  .parse();
const options = program.opts();
options.lengths ??= options.quick ? [4096, 32768] : [4096, 8192, 16384, 32768, 65536, 131072];
options.seconds ??= options.quick ? 220 : 540;

try {
  Device.open(options.device);
} catch (error) {
  console.log(`bench:gpu: nothing measured. ${error.message}`);
  process.exit(0);
}

const lines = [];
if (options.out !== undefined) writeFileSync(options.out, '');
const run = new Run(options, (line) => {
  lines.push(line);
  if (line.error !== undefined) process.exitCode = 1;
  const text = JSON.stringify(line);
  console.log(text);
  if (options.out !== undefined) appendFileSync(options.out, `${text}\n`);
});
for (const part of PARTS) {
  if (part !== 'ceilings' && (options.only ?? part) !== part) continue;
  if (part === 'peers') await peers(run);
  else await child(part);
}
console.log(`\n${renderTables(lines)}`);
process.exit();

/** Runs a part in a process of its own and passes on its lines. */
function child(part) {
  const own = { ...options, seconds: run.left(), ceiling: run.ceiling };
  return new Promise((done) => {
    const started = spawn(
      process.execPath,
      [`${import.meta.dirname}/part.mjs`, part, JSON.stringify(own)],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
        timeout: Math.round(1000 * Math.max(60, run.left() + 60)),
      },
    );
    createInterface({ input: started.stdout }).on('line', (text) => {
      if (!text.startsWith('{')) return;
      const line = JSON.parse(text);
      if (line.name === 'copy' && line.gbps !== undefined)
        run.ceiling.bytesPerSecond = line.gbps * 1e9;
      if (line.name === 'bf16 GEMM') run.ceiling.flopsPerSecond = line.tflops * 1e12;
      run.emit(line);
    });
    started.on('close', (code, signal) => {
      if (code !== 0)
        run.emit({ group: part, name: 'process', error: `ended with ${signal ?? code}` });
      if (code !== 0) process.exitCode = 1;
      done();
    });
  });
}

function numbers(text) {
  const list = text.split(',').map(Number);
  if (list.every((n) => Number.isInteger(n) && n > 0)) return list;
  throw new Error(`--lengths is "${text}"; give whole numbers, separated by commas`);
}
