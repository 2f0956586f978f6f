// A model of Llama-3.1-8B's shape with random weights, through the public API as a program uses it: time to load, time
// to first token, time of a decode step, memory.
import { appendBatch, compose, loadModel } from '@accel/core';
import { snapkv } from '@accel/snapkv';
import { DECODE_STEPS, steps, warmUp } from './decode-steps.mjs';
import { LLAMA } from './shapes.mjs';
import { median } from './timing.mjs';
import { tokens } from '../tokens.mjs';
import { writeModel } from './write-model.mjs';

export async function modelBench(run) {
  await run.part('model', 'all', 45, async () => {
    const spec = { ...LLAMA, layers: run.layers };
    const { bytes, written, seconds } = writeModel(run.dir, spec);
    run.emit({ group: 'model', name: 'written', bytes, written, seconds });
    const model = await load(run, bytes);
    try {
      await warmUp(model);
      for (const length of run.lengths) await single(run, model, length, bytes);
      await evicted(run, model, Math.max(...run.lengths));
      for (const length of run.lengths.filter((n) => n <= 32768))
        await batch(run, model, 8, length);
    } finally {
      model.dispose();
    }
  });
}

async function load(run, bytes) {
  const started = performance.now();
  const model = await loadModel(run.dir, { device: run.device, dtype: 'bfloat16' });
  const seconds = (performance.now() - started) / 1000;
  run.emit({
    group: 'model',
    name: 'load',
    seconds,
    gbps: bytes / seconds / 1e9,
    weightBytes: bytes,
    memory: model.device.info.memory,
  });
  return model;
}

async function single(run, model, length, weightBytes) {
  await run.part('model', `${length} tokens`, length > 65536 ? 40 : 12, async () => {
    const prompt = tokens(length, LLAMA.vocab);
    const times = [];
    const repeat = length <= 16384 ? 3 : 1;
    let sequence;
    model.device.resetPeak?.();
    model.pool.resetPeak();
    let prefillKernels;
    for (let i = 0; i < repeat; i++) {
      sequence?.dispose();
      sequence = model.sequence();
      const before = model.stream.kernels();
      const started = performance.now();
      await sequence.append(prompt);
      times.push(performance.now() - started);
      const after = model.stream.kernels();
      prefillKernels = Object.keys(after).filter((name) => after[name] !== before[name]);
    }
    const ms = median(times);
    const rates = prefillRates(run, length, ms);
    run.emit({
      group: 'model',
      name: 'prefill',
      batch: 1,
      length,
      ms,
      tokensPerSecond: (1000 * length) / ms,
      ...rates,
      kernels: prefillKernels,
    });
    const decode = await steps([sequence], DECODE_STEPS);
    const bytes = decodeBytes(run.layers, length);
    run.emit({
      group: 'model',
      name: 'decode',
      batch: 1,
      length,
      ms: decode.ms,
      tokensPerSecond: 1000 / decode.ms,
      gbps: bytes / decode.ms / 1e6,
      share: bytes / (decode.ms / 1000) / run.ceiling.bytesPerSecond,
      kernels: decode.kernels,
    });
    const { peak, used } = model.device.info.memory;
    const { peakBytes } = model.pool;
    run.emit({
      group: 'model',
      name: 'memory',
      length,
      peakBytes: peak,
      usedBytes: used,
      weightBytes,
      kvBytes: peakBytes,
      ...(peak !== undefined && { workspaceBytes: peak - weightBytes - peakBytes }),
    });
    sequence.dispose();
  });
}

async function batch(run, model, count, length) {
  await run.part('model', `batch ${count} of ${length}`, 4 + (count * length) / 20000, async () => {
    const sequences = Array.from({ length: count }, () => model.sequence());
    try {
      const prompt = tokens(length, LLAMA.vocab);
      const started = performance.now();
      // Packed while all prompts together are short; one by one they need less scratch memory.
      if (length <= 8192)
        await appendBatch(sequences.map((sequence) => ({ sequence, tokens: prompt })));
      else for (const sequence of sequences) await sequence.append(prompt);
      const ms = performance.now() - started;
      run.emit({
        group: 'model',
        name: 'prefill',
        batch: count,
        length,
        ms,
        tokensPerSecond: (1000 * count * length) / ms,
        ...prefillRates(run, length, ms / count),
      });
      const decode = await steps(sequences, DECODE_STEPS);
      const bytes = decodeBytes(run.layers, count * length);
      run.emit({
        group: 'model',
        name: 'decode',
        batch: count,
        length,
        ms: decode.ms,
        tokensPerSecond: (1000 * count) / decode.ms,
        gbps: bytes / decode.ms / 1e6,
        share: bytes / (decode.ms / 1000) / run.ceiling.bytesPerSecond,
        kernels: decode.kernels,
      });
    } finally {
      for (const sequence of sequences) sequence.dispose();
    }
  });
}

/** The longest prompt with SnapKV: what it costs at its end, and what a step costs afterwards. */
async function evicted(run, model, length) {
  await run.part('model', `SnapKV at ${length}`, length > 65536 ? 25 : 8, async () => {
    const policy = compose(snapkv({ budget: { tokens: 1024 } }));
    model.device.resetPeak();
    model.pool.resetPeak();
    const sequence = model.sequence({ policy, strict: true });
    const started = performance.now();
    await sequence.append(tokens(length, LLAMA.vocab));
    const ms = performance.now() - started;
    const decode = await steps([sequence], DECODE_STEPS);
    const { kv } = sequence.receipt();
    run.emit({
      group: 'model',
      name: 'SnapKV 1024',
      batch: 1,
      length,
      prefillMs: ms,
      ms: decode.ms,
      tokensPerSecond: 1000 / decode.ms,
      kvBytes: kv.measuredBytes,
      fullBytes: kv.fullBytes,
      poolPeakBytes: model.pool.peakBytes,
      // With what the allocator keeps from earlier measurements.
      peakBytes: model.device.info.memory.peak,
      kernels: decode.kernels,
    });
    sequence.dispose();
  });
}

/** Matrix products and causal attention; the output matrix works on one row alone. */
function prefillRates(run, length, ms) {
  const { hidden, intermediate, heads, kvHeads, headDim } = LLAMA;
  const parameters = hidden * headDim * (2 * heads + 2 * kvHeads) + 3 * hidden * intermediate;
  const flops = run.layers * (2 * parameters * length + 2 * length * length * heads * headDim);
  return { tflops: flops / ms / 1e9, share: flops / (ms / 1000) / run.ceiling.flopsPerSecond };
}

/** What a step must read: every weight but the embedding table once, and the cache. */
function decodeBytes(layers, rows) {
  const { hidden, intermediate, heads, kvHeads, headDim, vocab } = LLAMA;
  const parameters = hidden * headDim * (2 * heads + 2 * kvHeads) + 3 * hidden * intermediate;
  return 2 * (layers * parameters + vocab * hidden) + layers * rows * 2 * kvHeads * headDim * 2;
}
