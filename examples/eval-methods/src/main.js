// All methods on RULER's retrieval and tracking tasks with the embedded model, query-aware: the question is part of the
// prompt that is compressed. Without arguments a small run; the tables in the methods' READMEs come from --all.
import { parseArgs } from 'node:util';
import { loadModel } from '@accel/core';
import { formatTable, rulerConfig, runEval } from '@accel/eval';
import { needlePath } from '@accel/needle';
import { methods } from './methods.js';

const ALL = {
  tasks: [
    'single_1',
    'single_2',
    'single_3',
    'multikey_1',
    'multikey_2',
    'multikey_3',
    'multivalue',
    'multiquery',
  ]
    .map((name) => `niah_${name}`)
    .concat('vt'),
  lengths: [4096, 8192],
  samples: 10,
  budget: 1024,
};
const SMALL = { tasks: ['niah_single_2', 'vt'], lengths: [2048], samples: 2, budget: 256 };

const { values } = parseArgs({
  options: {
    all: { type: 'boolean', default: false },
    device: { type: 'string', default: 'cpu' },
    samples: { type: 'string' },
    budget: { type: 'string' },
    pool: { type: 'string', default: '15' },
    methods: { type: 'string' },
    lengths: { type: 'string' },
    output: { type: 'string' },
    'by-task': { type: 'boolean', default: false },
  },
});
const { budget, ...plan } = values.all ? ALL : SMALL;
if (values.samples !== undefined) plan.samples = Number(values.samples);
if (values.lengths !== undefined) plan.lengths = values.lengths.split(',').map(Number);
const wanted = values.methods?.split(',');
const compared = methods(Number(values.budget ?? budget), Number(values.pool)).filter(
  ({ name }) => wanted?.includes(name) ?? true,
);

const model = await loadModel(needlePath, { device: values.device });
const run = runEval({
  model,
  methods: compared,
  config: rulerConfig({ ...plan, workedExample: false }),
  strict: true,
  ...(values.output !== undefined && { output: values.output }),
});
for await (const event of run) {
  if (event.type === 'record' && !values.all)
    console.log(`${event.record.id}: ${event.record.score.toFixed(0)}`);
  if (event.type === 'end')
    console.log(`\n${formatTable(event.summary, { byTask: values['by-task'] })}`);
}
model.dispose();
