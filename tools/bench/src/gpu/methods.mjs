// What the eviction, budget and merging methods cost and give on the 8B shape: the prompt's time over the plain run's, and
// decode steps with a small cache beside those with the full one. Random weights: time does not depend on them, quality
// is not measured here.
import { cakekv } from '@accel/cakekv';
import { cam } from '@accel/cam';
import { compose, full, loadModel } from '@accel/core';
import { h2o } from '@accel/h2o';
import { Device, ops, Tensor } from '@accel/kernels';
import { l2compress } from '@accel/l2compress';
import { pyramidkv } from '@accel/pyramidkv';
import { snapkv } from '@accel/snapkv';
import { streamingllm } from '@accel/streamingllm';
import { caches } from './caches.mjs';
import { normal } from './data.mjs';
import { DECODE_STEPS, steps, warmUp } from './decode-steps.mjs';
import { promptOverhead } from './prompts.mjs';
import { LLAMA } from './shapes.mjs';
import { Timer } from './timing.mjs';
import { tokens } from '../tokens.mjs';
import { writeModel } from './write-model.mjs';

const budget = { tokens: 1024 };
const POLICIES = {
  SnapKV: () => compose(snapkv({ budget })),
  PyramidKV: () => compose(snapkv({ budget }), pyramidkv()),
  L2Compress: () => compose(l2compress({ budget })),
  CakeKV: () => compose(...cakekv({ budget })),
  H2O: () => compose(h2o({ budget })),
  StreamingLLM: () => compose(streamingllm({ budget })),
  'StreamingLLM+CaM': () => compose(streamingllm({ budget }), cam()),
  'H2O+CaM': () => compose(h2o({ budget }), cam()),
};

export async function methodsBench(run) {
  const length = Math.min(32768, Math.max(...run.lengths));
  const longest = Math.max(...run.lengths);
  let attentionUs;
  await run.part('methods', 'column sums', 10, async () => {
    attentionUs = await columnSums(run, length);
  });
  await run.part('methods', 'all', 60, async () => {
    writeModel(run.dir, { ...LLAMA, layers: run.layers });
    const model = await loadModel(run.dir, { device: run.device, dtype: 'bfloat16' });
    try {
      await warmUp(model);
      for (const [name, make] of Object.entries(POLICIES))
        await run.part('methods', name, 24, () =>
          promptOverhead(run, 'methods', model, name, make(), length, attentionUs),
        );
      await run.part('methods', `decode after ${longest}`, 20, () =>
        decode(run, model, 'full', full, longest),
      );
      for (const name of ['SnapKV', 'H2O', 'StreamingLLM+CaM', 'H2O+CaM', 'CakeKV'])
        await run.part('methods', `${name} after ${longest}`, 20, () =>
          decode(run, model, name, POLICIES[name](), longest),
        );
    } finally {
      model.dispose();
    }
  });
}

/** H2O's pass over a prompt beside the attention it looks at, in the same run. @returns µs of attention in a layer */
async function columnSums(run, rows) {
  const device = Device.open(run.device);
  const stream = device.createStream();
  const timer = new Timer(stream, () => undefined, { samples: run.quick ? 3 : 7 });
  const { heads, kvHeads, headDim } = LLAMA;
  const { sequences, dispose } = caches(device, stream, { rows });
  const kv = sequences[0].kv(0);
  const scale = 1 / Math.sqrt(headDim);
  const q = normal(device, stream, [rows, heads, headDim]);
  const out = Tensor.empty(device, 'bfloat16', q.shape);
  const lse = Tensor.empty(device, 'float32', [rows, heads]);
  const sums = Tensor.empty(device, 'float32', [kvHeads, rows]);
  const attention = () =>
    ops.attention(stream, out, lse, q, kv, Int32Array.of(rows), { scale, causal: true });
  const columns = () => ops.columnSums(stream, sums, q, lse, kv, { scale, reduce: 'mean' });
  attention();
  const dense = await timer.measure(attention);
  const extra = await timer.measure(columns);
  run.emit({
    group: 'methods',
    name: 'column_sums',
    length: rows,
    us: extra.us,
    attentionUs: dense.us,
    ratio: extra.us / dense.us,
    kernels: [...dense.kernels, ...extra.kernels],
  });
  for (const tensor of [q, out, lse, sums]) tensor.dispose();
  dispose();
  stream.dispose();
  return dense.us;
}

async function decode(run, model, name, policy, length) {
  const sequence = model.sequence({ policy });
  await sequence.append(tokens(length, LLAMA.vocab));
  const { ms, kernels } = await steps([sequence], DECODE_STEPS);
  const { kv, fallbacks } = sequence.receipt();
  run.emit({
    group: 'methods',
    name: `decode ${name}`,
    length,
    decodeMs: ms,
    kvBytes: kv.measuredBytes,
    fallbacks,
    kernels,
  });
  sequence.dispose();
}
