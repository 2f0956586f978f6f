// What does the harness cost? RULER answered by runEval, and the same prompts answered by a bare loop over the engine, in
// turns in one process; what runEval takes longer is the harness: making prompts, batching, scoring, writing records.
//
//   node packages/eval/bench/harness.mjs [--model path] [--device cpu] [--length 4096] [--samples 32] [--batch 8] [--rounds 3]
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { appendBatch, full, generateBatch, loadModel } from '@accel/core';
import { openBenchmark, rulerConfig, runEval } from '@accel/eval';
import { needlePath } from '@accel/needle';

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: needlePath },
    device: { type: 'string', default: 'cpu' },
    length: { type: 'string', default: '4096' },
    samples: { type: 'string', default: '32' },
    batch: { type: 'string', default: '8' },
    rounds: { type: 'string', default: '3' },
  },
});
const [length, samples, batch, rounds] = ['length', 'samples', 'batch', 'rounds'].map((name) =>
  Number(values[name]),
);
// Prose, so that every prompt is really tokenized anew.
const config = rulerConfig({ tasks: ['niah_single_2'], lengths: [length], samples });
const methods = [{ name: 'full', policy: full }];
const model = await loadModel(values.model, { device: values.device });
const prompts = await bareprompts();

/** Ids of the run's prompts, made before the clock runs. */
async function bareprompts() {
  const { tokenizer } = model;
  const benchmark = await openBenchmark(config);
  const encode = (text) => tokenizer.encode(text, { addSpecial: false });
  const meter = {
    encode,
    countTokens: (text) => encode(text).length,
    decode: (ids) => tokenizer.decode(ids),
    wrap: (text) => text,
  };
  const ids = [];
  const steps = benchmark.samples(benchmark.tasks[0], meter);
  while (ids.length < samples) {
    const sample = steps.next().value;
    if (sample !== undefined)
      ids.push(tokenizer.encode(sample.context + sample.question + sample.answerPrefix));
  }
  return ids;
}

/** Seconds of the engine alone. */
async function bare() {
  const started = performance.now();
  for (let at = 0; at < prompts.length; at += batch) {
    const items = prompts
      .slice(at, at + batch)
      .map((tokens) => ({ sequence: model.sequence(), tokens }));
    await appendBatch(items);
    const sequences = items.map(({ sequence }) => sequence);
    const events = generateBatch(sequences, { maxTokens: 128, temperature: 0 });
    for await (const _ of events);
    for (const sequence of sequences) sequence.dispose();
  }
  return (performance.now() - started) / 1000;
}

/** Seconds of the whole run, and of what comes before its first batch. */
async function harness() {
  const output = mkdtempSync(join(tmpdir(), 'accel-harness-'));
  const started = performance.now();
  let first;
  const template = { ...config, template: 'none' };
  for await (const event of runEval({
    model,
    config: template,
    methods,
    output,
    batchSize: batch,
  })) {
    if (event.type === 'batch') first ??= (performance.now() - started) / 1000;
  }
  const seconds = (performance.now() - started) / 1000;
  rmSync(output, { recursive: true });
  return { seconds, start: first };
}

await bare(); // the first run warms caches, clocks and graphs
const all = [];
for (let round = 0; round < rounds; round++) {
  const [engine, run] = [await bare(), await harness()];
  const [whole, going] = [run.seconds, run.seconds - run.start].map(
    (seconds) => (100 * (seconds - engine)) / engine,
  );
  all.push(going);
  console.log(
    `${engine.toFixed(2)} s engine, ${run.seconds.toFixed(2)} s run (${run.start.toFixed(2)} s before the first batch): ` +
      `harness ${going.toFixed(1)} %, with its start ${whole.toFixed(1)} %`,
  );
}
all.sort((a, b) => a - b);
console.log(
  `${samples} prompts of ${length} tokens, batch ${batch}, ${values.device}: the harness adds ${all[Math.floor(rounds / 2)].toFixed(1)} % (median of ${rounds})`,
);
model.dispose();
