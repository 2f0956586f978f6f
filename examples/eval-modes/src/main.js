// What does a score of SnapKV mean? The same questions in three modes: in the prompt that is compressed, after the
// compression, and after another question about the same text. Then a paired test, and a report to look at.
import { writeFile } from 'node:fs/promises';
import { compose, full, loadModel } from '@accel/core';
import {
  compare,
  formatComparison,
  formatTable,
  MODES,
  readRun,
  renderReport,
  rulerConfig,
  runEval,
} from '@accel/eval';
import { needlePath } from '@accel/needle';
import { snapkv } from '@accel/snapkv';

const output = new URL('../results/modes', import.meta.url).pathname;
const model = await loadModel(needlePath);
const methods = [
  { name: 'full', policy: full },
  // Digits are single tokens in this model's vocabulary: votes must reach a whole number.
  {
    name: 'SnapKV',
    policy: compose(snapkv({ budget: { tokens: 256 }, pool: { kind: 'max', size: 15 } })),
  },
];
const config = rulerConfig({
  tasks: ['niah_single_2', 'niah_multikey_1'],
  lengths: [2048],
  samples: 4,
  modes: MODES,
});
// Run it again: nothing is answered twice, only the report is made anew.
for await (const event of runEval({ model, methods, config, output, batchSize: 4 })) {
  if (event.type === 'start') console.log(`${event.resumed} of ${event.progress.total} are there`);
  if (event.type === 'end') console.log(`\n${formatTable(event.summary)}\n`);
}
model.dispose();

const run = await readRun(output);
for (const comparison of compare({ run, method: 'full' }, { run, method: 'SnapKV' })) {
  console.log(`${formatComparison(comparison)}\n`);
}
await writeFile(`${output}/report.html`, await renderReport([run]));
console.log(`Open ${output}/report.html`);
