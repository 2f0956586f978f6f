/**
 * A run that a test kills and starts again: argv has its folder, the file to log every answer to, and how long a batch
 * takes in milliseconds. Ends with exit code 0 when the run is complete.
 */
import { appendFileSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { full } from '@accel/core';
import type { Benchmark } from '../benchmark/types.js';
import { rulerConfig } from '../config/defaults.js';
import { runEval } from '../runner/run-eval.js';
import { fakeModel } from './fake-model.js';

const [, , output = '', log = '', ms = '0'] = process.argv;
const ANSWER = 'x'.repeat(2000);

const benchmark: Benchmark = {
  name: 'RULER',
  fingerprint: 'fixed',
  tasks: ['first', 'second', 'third'].map((name) => ({
    id: `${name}_100`,
    name,
    length: 100,
    maxNewTokens: 8,
    metric: { name: 'length' },
  })),
  *samples(task) {
    for (let index = 0; ; index++) {
      yield {
        kind: 'question',
        index,
        context: `${task.name} text`,
        question: ` number ${index}?`,
        answerPrefix: '',
        firstQuestion: ' another?',
        references: [String(index)],
      };
    }
  },
  score: (_, prediction, sample) => (prediction.length + sample.index) % 101,
};

const { subject, executor } = fakeModel({
  batchSize: 2,
  slots: 2,
  answer: (prompt) => prompt + ANSWER,
  onBatch: async (jobs) => {
    appendFileSync(log, jobs.map(({ id }) => `${id}\n`).join(''));
    await setTimeout(Number(ms) * Math.random());
    return undefined;
  },
});
const run = runEval({
  subject,
  executor,
  benchmark,
  config: rulerConfig({ samples: Number(process.env['SAMPLES'] ?? 10) }),
  methods: [
    { name: 'full', policy: full },
    { name: 'again', policy: full },
  ],
  output,
});
for await (const _ of run);
