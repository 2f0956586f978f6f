// One line of memory.mjs: loads the model, reads prompts, decodes, and prints what that took as JSON.
//   node memory-run.mjs '{"dir":"…","device":"cuda","tokens":4096,"batch":1,"policy":"full"}'
import { cakekv } from '@accel/cakekv';
import {
  appendBatch,
  compose,
  describeModel,
  estimateMemory,
  full,
  generateBatch,
  loadModel,
} from '@accel/core';
import { flexprefill } from '@accel/flexprefill';
import { h2o } from '@accel/h2o';
import { kivi } from '@accel/kivi';
import { pyramidkv } from '@accel/pyramidkv';
import { snapkv } from '@accel/snapkv';
import { streamingllm } from '@accel/streamingllm';
import { xattention } from '@accel/xattention';
import { tokens as someTokens } from '../tokens.mjs';

const budget = { tokens: 1024 };
const POLICIES = {
  full: () => full,
  SnapKV: () => compose(snapkv({ budget })),
  PyramidKV: () => compose(snapkv({ budget }), pyramidkv()),
  CakeKV: () => compose(...cakekv({ budget })),
  H2O: () => compose(h2o({ budget })),
  StreamingLLM: () => compose(streamingllm({ budget })),
  KIVI: () => compose(kivi({ bits: 2 })),
  'SnapKV+KIVI': () => compose(snapkv({ budget }), kivi({ bits: 2 })),
  XAttention: () => compose(xattention()),
  FlexPrefill: () => compose(flexprefill()),
};
const DECODE_TOKENS = 48;

const { dir, device, tokens, batch, policy: name, together = false } = JSON.parse(process.argv[2]);
const policy = POLICIES[name]();
const { blueprint, stored } = await describeModel(dir);
const model = await loadModel(dir, { device, dtype: 'bfloat16' });
const { isa, threads: multiprocessors, memory } = model.device.info;
const loaded = { used: memory.used, driver: driverOf(memory) };
const estimate = estimateMemory(blueprint, {
  tokens,
  batch,
  together,
  policy,
  stored,
  decodeTokens: DECODE_TOKENS,
  dtype: 'bfloat16',
  target: { kind: 'cuda', isa, multiprocessors },
});
const prompt = someTokens(tokens, blueprint.spec.vocabSize);
const sequences = Array.from({ length: batch }, () => model.sequence({ policy }));
if (together) await appendBatch(sequences.map((sequence) => ({ sequence, tokens: prompt })));
else for (const sequence of sequences) await sequence.append(prompt);
for await (const event of generateBatch(sequences, {
  maxTokens: DECODE_TOKENS + 1,
  ignoreEos: true,
}))
  void event;
const after = model.device.info.memory;
// The context is there from the start, code of kernels comes as they run: the driver's part only grows.
const driver = driverOf(after);
const measured = after.peak + driver;
// Without a measurement of this kind of card the estimate leaves the driver out.
const said = estimate.total + (estimate.driver === undefined ? driver : 0);
const line = {
  name,
  tokens,
  batch,
  together,
  isa,
  estimateBytes: said,
  measuredBytes: measured,
  difference: said / measured - 1,
  estimate,
  measured: {
    weights: loaded.used,
    driverLoaded: loaded.driver,
    driver,
    peak: after.peak,
    idle: after.idle,
    kvPeak: model.pool.peakBytes,
    workspaceTensors: model.runtime.workspace.bytes,
  },
};
console.log(JSON.stringify(line));
process.exit(0);

/** What is gone from the card beside what this process took of it. */
function driverOf({ total, free, idle, used }) {
  return total - (free - idle) - used;
}
