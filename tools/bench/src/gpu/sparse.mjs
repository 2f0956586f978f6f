// Sparse prefill: block-sparse attention at chosen densities beside the dense kernel, the estimators of XAttention and
// FlexPrefill on structured data, whole prompts of the 8B shape, and peers on the same data. Densities are blocks computed of
// those up to the diagonal; the dense baselines are causal.
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { compose, full, loadModel } from '@accel/core';
import { flexprefill } from '@accel/flexprefill';
import { Device, ops, Tensor } from '@accel/kernels';
import { xattention } from '@accel/xattention';
import { warmUp } from './decode-steps.mjs';
import { LLAMA } from './shapes.mjs';
import { structured } from './structured.mjs';
import { median, Timer } from './timing.mjs';
import { tokens } from '../tokens.mjs';
import { writeModel } from './write-model.mjs';

const BLOCK = 128;
const { heads, headDim } = LLAMA;
const scale = 1 / Math.sqrt(headDim);
const DENSITIES = [0.05, 0.1, 0.25, 0.5, 1];
const METHODS = {
  'XAttention S=16': () => xattention({ stride: 16, threshold: 0.9, dense: 0 }),
  'XAttention S=8': () => xattention({ stride: 8, threshold: 0.9, dense: 0 }),
  FlexPrefill: () => flexprefill({ gamma: 0.9, tau: 0.1, minBudget: 512 }),
  // Every head scores all blocks: its estimator at its slowest.
  'FlexPrefill, query-aware': () => flexprefill({ gamma: 0.9, tau: 0.85, minBudget: 512 }),
};

export async function sparseBench(run) {
  const folder = join(run.dir, '..', 'accel-bench-structured');
  rmSync(folder, { recursive: true, force: true });
  const device = Device.open(run.device);
  const stream = device.createStream();
  const timer = new Timer(stream, () => undefined, { samples: run.quick ? 3 : 5 });
  for (const kind of ['mixed', 'local']) {
    const files = join(folder, kind);
    mkdirSync(files, { recursive: true });
    for (const rows of run.lengths)
      await run.part('sparse', `${rows} tokens`, 10 + rows / 8192, () =>
        layer(run, { device, stream, timer }, rows, kind, files),
      );
    await run.part('sparse', 'peers', 20, () => peers(run, kind, files));
    rmSync(files, { recursive: true });
  }
  rmSync(folder, { recursive: true, force: true });
  stream.dispose();
  const longest = Math.max(...run.lengths);
  await run.part('sparse', 'model', 60, () => prompts(run, longest));
}

async function layer(run, { device, stream, timer }, rows, data, folder) {
  const { q, kv: cache, dispose } = structured(device, stream, rows, data, folder);
  const kv = cache();
  const out = Tensor.empty(device, 'bfloat16', q.shape);
  const lens = Int32Array.of(rows);
  const dense = await timer.measure(() =>
    ops.attention(stream, out, null, q, kv, lens, { scale, causal: true }),
  );
  const blocks = Math.ceil(rows / BLOCK);
  const causal = (blocks * (blocks + 1)) / 2;
  const flops = 4 * BLOCK * BLOCK * headDim;
  const denseRate = (causal * heads * flops) / dense.us;
  run.emit({ group: 'sparse', name: 'dense', length: rows, us: dense.us, tflops: denseRate / 1e6 });

  const words = Math.ceil(blocks / 32);
  const mask = Tensor.empty(device, 'int32', [blocks, heads, words]);
  const counts = Tensor.empty(device, 'int32', [1, heads]);
  const attend = () => ops.blockSparseAttention(stream, out, null, q, kv, lens, { scale, mask });
  const computed = async () => {
    counts.write(stream, new Int32Array(heads));
    ops.blockSparseAttention(stream, out, null, q, kv, lens, { scale, mask, counts });
    return (await counts.read(stream)).reduce((sum, count) => sum + count, 0);
  };

  const sparseUs = {};
  // Which blocks are computed by chance does not depend on the data.
  for (const wanted of data === 'mixed' ? DENSITIES : [0.1]) {
    mask.write(stream, randomMask(blocks, words, wanted));
    const tiles = await computed();
    const { us, kernels } = await timer.measure(attend);
    sparseUs[wanted] = us;
    run.emit({
      group: 'sparse',
      name: 'random blocks',
      data,
      length: rows,
      density: tiles / (causal * heads),
      us,
      speedup: dense.us / us,
      tflops: (tiles * flops) / us / 1e6,
      ofDenseRate: (tiles * flops) / us / denseRate,
      kernels,
    });
  }

  for (const [name, make] of Object.entries(METHODS)) {
    const part = make();
    const figures = Tensor.empty(device, 'float32', [heads, part.figures.length]);
    const chooser = part.create({ spec: LLAMA, stream, device, dtype: 'bfloat16', tallies: [] });
    const call = { layer: 0, stream, q, kv, m: rows, rows, scale, mask, figures };
    const why = chooser.choose(call);
    if (why !== undefined) {
      run.emit({ group: 'sparse', name, length: rows, skipped: why });
      figures.dispose();
      continue;
    }
    const tiles = await computed();
    const told = await figures.read(stream);
    const recall = Array.from({ length: heads }, (_, h) => told[h * part.figures.length]);
    const choose = await timer.measure(() => chooser.choose(call));
    const attention = await timer.measure(attend);
    const both = await timer.measure(() => {
      chooser.choose(call);
      attend();
    });
    run.emit({
      group: 'sparse',
      name,
      data,
      length: rows,
      density: tiles / (causal * heads),
      recall: recall.reduce((a, b) => a + b, 0) / heads,
      ...(part.figures.includes('queryAware') && {
        queryAware: recall.filter((_, h) => told[h * part.figures.length + 1] > 0).length / heads,
      }),
      chooseUs: choose.us,
      ofDense: choose.us / dense.us,
      attentionUs: attention.us,
      us: both.us,
      speedup: dense.us / both.us,
      // What the estimator and attention at a tenth of the blocks would take together.
      atTenth: dense.us / (choose.us + sparseUs[0.1]),
      kernels: [...new Set([...choose.kernels, ...attention.kernels])],
    });
    chooser.dispose();
    figures.dispose();
  }
  for (const tensor of [mask, counts, out]) tensor.dispose();
  dispose();
}

/** First column, diagonal, and others by chance, so that `density` of the causal blocks are set. */
function randomMask(blocks, words, density) {
  const mask = new Int32Array(blocks * heads * words);
  const causal = (blocks * (blocks + 1)) / 2;
  const forced = 2 * blocks - 1;
  const chance = Math.max(0, (density * causal - forced) / Math.max(1, causal - forced));
  let state = 12_345;
  for (let row = 0; row < blocks * heads; row++) {
    const i = Math.floor(row / heads);
    for (let j = 0; j <= i; j++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      if (j === 0 || j === i || state / 2 ** 32 < chance)
        mask[row * words + (j >> 5)] |= 1 << (j & 31);
    }
  }
  return mask;
}

/** cuDNN and, where its source is (ACCEL_FLEXPREFILL_SOURCE), the original FlexPrefill on the same data. */
async function peers(run, data, folder) {
  const python = process.env.ACCEL_PYTHON ?? 'python3';
  const check = 'import torch, sys; sys.exit(0 if torch.cuda.is_available() else "no GPU")';
  if (spawnSync(python, ['-c', check]).status !== 0) {
    run.emit({ group: 'sparse', name: 'peers', skipped: `${python} cannot run torch on this GPU` });
    return;
  }
  const script = resolve(import.meta.dirname, '../../../peers/flexprefill_original.py');
  const source = process.env.ACCEL_FLEXPREFILL_SOURCE;
  const args = [script, folder, ...(source === undefined ? [] : ['--source', source])];
  await new Promise((done, fail) => {
    const child = spawn(python, args, { stdio: ['ignore', 'pipe', 'inherit'], timeout: 300_000 });
    createInterface({ input: child.stdout }).on('line', (line) => {
      if (!line.startsWith('{')) return;
      const { tokens: length, ...rest } = JSON.parse(line);
      run.emit({ group: 'sparse', data, length, ...rest });
    });
    child.on('error', fail);
    child.on('close', (code) =>
      code === 0 ? done() : fail(new Error(`${script} ended with ${code}`)),
    );
  });
}

/** Whole prompts through a model whose weights make attention local: dense, sparse, and by transformers. */
async function prompts(run, length) {
  writeModel(run.dir, { ...LLAMA, layers: run.layers, structured: true });
  const model = await loadModel(run.dir, { device: run.device, dtype: 'bfloat16' });
  const prompt = tokens(length, LLAMA.vocab);
  const policies = {
    dense: full,
    'XAttention S=16': compose(xattention({ stride: 16, threshold: 0.9 })),
    FlexPrefill: compose(flexprefill({ gamma: 0.9, tau: 0.1, minBudget: 512 })),
  };
  try {
    await warmUp(model);
    const times = Object.fromEntries(Object.keys(policies).map((name) => [name, []]));
    const receipts = {};
    for (let round = 0; round < 2; round++)
      for (const [name, policy] of Object.entries(policies)) {
        const sequence = model.sequence({ policy });
        const started = performance.now();
        await sequence.append(prompt);
        times[name].push(performance.now() - started);
        receipts[name] = sequence.receipt();
        sequence.dispose();
      }
    for (const [name, list] of Object.entries(times)) {
      const { prefill, fallbacks } = receipts[name];
      const mean = (list) => list.reduce((a, b) => a + b, 0) / list.length;
      // The last layer attends for one row only.
      const layers = (prefill?.layers ?? []).filter(({ density }) => density.length > 0);
      run.emit({
        group: 'sparse',
        name: `prompt ${name}`,
        length,
        ms: Math.min(...list),
        times: list,
        speedup: median(times.dense) / median(list),
        ...(prefill && {
          density: mean(layers.flatMap(({ density }) => density)),
          recall: mean(layers.flatMap(({ figures }) => figures.recall)),
          estimateMs: 1000 * prefill.estimateSeconds,
          dense: prefill.dense,
        }),
        fallbacks,
      });
    }
  } finally {
    model.dispose();
  }
  await transformers(run, length);
}

async function transformers(run, length) {
  const python = process.env.ACCEL_PYTHON ?? 'python3';
  const script = resolve(import.meta.dirname, '../../../peers/transformers_bench.py');
  await new Promise((done) => {
    const args = [script, run.dir, '--lengths', String(length), '--prefill-only'];
    const child = spawn(python, args, { stdio: ['ignore', 'pipe', 'inherit'], timeout: 200_000 });
    createInterface({ input: child.stdout }).on('line', (line) => {
      if (line.startsWith('{')) run.emit({ group: 'sparse', ...JSON.parse(line) });
    });
    child.on('error', done);
    child.on('close', done);
  });
}
