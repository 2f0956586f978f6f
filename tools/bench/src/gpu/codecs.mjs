// KIVI and ThinK: attention over encoded rows beside plain ones, what encoding costs, and the 8B shape with each of them:
// decode steps in the same run as the full cache, prompts beside plain ones. Random weights: time does not depend on them.
import { compose, full, loadModel } from '@accel/core';
import { kivi } from '@accel/kivi';
import { Device, kvBatch, ops, Tensor } from '@accel/kernels';
import { snapkv } from '@accel/snapkv';
import { think } from '@accel/think';
import { caches } from './caches.mjs';
import { normal } from './data.mjs';
import { DECODE_STEPS, steps, warmUp } from './decode-steps.mjs';
import { promptOverhead } from './prompts.mjs';
import { LLAMA } from './shapes.mjs';
import { Timer } from './timing.mjs';
import { tokens } from '../tokens.mjs';
import { writeModel } from './write-model.mjs';

const { heads, kvHeads, headDim } = LLAMA;
const scale = 1 / Math.sqrt(headDim);
const spec = { ...LLAMA };
const dtype = 'bfloat16';
/** As in attention.mjs. */
const CYCLE_BYTES = 400e6;

const FORMATS = {
  full: undefined,
  'KIVI-8': () => codec(8),
  'KIVI-4': () => codec(4),
  'KIVI-2': () => codec(2),
};
const POLICIES = {
  full: () => full,
  'KIVI-4': () => compose(kivi({ bits: 4, group: 32, residual: 128 })),
  'KIVI-2': () => compose(kivi({ bits: 2, group: 32, residual: 128 })),
  ThinK: () => compose(think({ ratio: 0.4 })),
  'ThinK+KIVI-2': () => compose(think({ ratio: 0.4 }), kivi({ bits: 2, group: 32, residual: 128 })),
  'SnapKV+ThinK+KIVI-4': () =>
    compose(
      snapkv({ budget: { tokens: 1024 } }),
      think({ ratio: 0.4 }),
      kivi({ bits: 4, group: 32, residual: 128 }),
    ),
};

function codec(bits) {
  const part = kivi({ bits, group: 32, residual: 128 });
  return part.format({ spec, dtype, channels: headDim, header: 0, recent: 0 });
}

export async function codecsBench(run) {
  const batches = run.quick
    ? [[8, 32768]]
    : [
        [1, 32768],
        [8, 32768],
        [1, 131072],
      ];
  const device = Device.open(run.device);
  const stream = device.createStream();
  const [x, weight] = [0, 1].map(() => normal(device, stream, [4096, 4096]));
  const product = Tensor.empty(device, dtype, [4096, 4096]);
  const blocker = () => ops.linear(stream, product, x, weight, null, false);
  const timer = new Timer(stream, blocker, { samples: run.quick ? 5 : 9 });
  for (const [batch, rows] of batches) {
    for (const [name, make] of Object.entries(FORMATS))
      await run.part('codecs', `${name}, batch ${batch}, ${rows} rows`, 6, () =>
        attention(run, { device, stream, timer }, name, make?.(), batch, rows),
      );
  }
  await run.part('codecs', 'encode', 5, () => encode(run, { device, stream, timer }, 32768));
  await run.part('codecs', 'model', 60, () => model(run));
}

/** One layer's attention of a decode step, with the bytes its cache takes. */
async function attention(run, { device, stream, timer }, name, format, batch, rows) {
  const bytes = batch * rows * 4 * kvHeads * headDim;
  const layers = Math.max(1, Math.ceil((4 * CYCLE_BYTES) / bytes));
  const { sequences, dispose } = caches(device, stream, { count: batch, layers, rows, format });
  const q = normal(device, stream, [batch, heads, headDim]);
  const out = Tensor.empty(device, dtype, q.shape);
  const lens = new Int32Array(batch).fill(1);
  const args = Array.from({ length: layers }, (_, layer) => kvBatch(sequences, layer));
  const call = (i) => {
    const kv = args[i];
    if (format === undefined)
      ops.attention(stream, out, null, q, kv, lens, { scale, causal: true });
    else format.attend({ stream, out, lse: null, q, kv, lens, scale, window: 0 });
  };
  const { us, kernels } = await timer.measure(call, layers);
  const kvBytes =
    sequences.reduce((sum, sequence) => sum + sequence.bytes().arithmetic, 0) / layers;
  run.emit({ group: 'codecs', name, batch, rows, us, gbps: kvBytes / us / 1e3, kvBytes, kernels });
  for (const tensor of [q, out]) tensor.dispose();
  dispose();
}

/** Packing one layer of a prompt. */
async function encode(run, { device, stream }, rows) {
  for (const bits of [2, 4]) {
    const format = codec(bits);
    const shape = { device, rows, format: { ...format, rules: {} } };
    // Every measured call needs rows that are still plain.
    const calls = 12;
    const { sequences, dispose } = caches(device, stream, { ...shape, layers: calls });
    let next = 0;
    await stream.synchronize();
    const pack = () => {
      sequences[0].encode(next++, format.rules, (kv, _, due) =>
        format.encode({ stream, kv, ...due }),
      );
    };
    pack();
    pack();
    await stream.synchronize();
    const started = performance.now();
    while (next < calls) pack();
    await stream.synchronize();
    const us = (1000 * (performance.now() - started)) / (calls - 2);
    run.emit({ group: 'codecs', name: `encode KIVI-${bits}`, rows, us });
    dispose();
  }
}

async function model(run) {
  writeModel(run.dir, { ...LLAMA, layers: run.layers });
  const loaded = await loadModel(run.dir, { device: run.device, dtype });
  try {
    await warmUp(loaded);
    const length = Math.min(32768, Math.max(...run.lengths));
    for (const name of ['KIVI-2', 'KIVI-4', 'ThinK'])
      await run.part('codecs', `prompt ${name}`, 24, () =>
        promptOverhead(run, 'codecs', loaded, name, POLICIES[name](), length),
      );
    for (const [name, make] of Object.entries(POLICIES))
      await run.part('codecs', `decode ${name}`, 20, () =>
        decode(run, loaded, name, make(), 8, length),
      );
    if (!run.quick && Math.max(...run.lengths) > 65536)
      await run.part('codecs', 'decode KIVI-2, 128K', 130, () =>
        decode(run, loaded, 'KIVI-2', POLICIES['KIVI-2'](), 8, 131072),
      );
  } finally {
    loaded.dispose();
  }
}

async function decode(run, loaded, name, policy, batch, length) {
  const sequences = [];
  try {
    loaded.pool.resetPeak();
    for (let i = 0; i < batch; i++) {
      sequences.push(loaded.sequence({ policy }));
      await sequences[i].append(tokens(length, LLAMA.vocab));
    }
    const { ms, kernels } = await steps(sequences, DECODE_STEPS);
    const receipts = sequences.map((sequence) => sequence.receipt());
    const sum = (key) => receipts.reduce((total, { kv }) => total + kv[key], 0);
    run.emit({
      group: 'codecs',
      name: `decode ${name}`,
      batch,
      length,
      ms,
      kvBytes: sum('measuredBytes'),
      arithmeticBytes: sum('arithmeticBytes'),
      fullBytes: sum('fullBytes'),
      poolPeakBytes: loaded.pool.peakBytes,
      memory: loaded.device.info.memory,
      fallbacks: receipts[0].fallbacks,
      kernels,
    });
  } finally {
    for (const sequence of sequences) sequence.dispose();
  }
}
