// How small may the cache get? SnapKV at falling budgets on three RULER tasks at 2K tokens.
import { compose, full, loadModel } from '@accel/core';
import { formatTable, rulerConfig, runEval } from '@accel/eval';
import { needlePath } from '@accel/needle';
import { snapkv } from '@accel/snapkv';

const model = await loadModel(needlePath);
const methods = [
  { name: 'full', policy: full },
  ...[256, 128, 64, 40].map((tokens) => ({
    name: `SnapKV ${tokens}`,
    // Digits are single tokens in this model's vocabulary: votes must reach a whole number.
    policy: compose(snapkv({ budget: { tokens }, pool: { kind: 'max', size: 15 } })),
  })),
];
const config = rulerConfig({
  tasks: ['niah_single_1', 'niah_multikey_1', 'niah_multivalue'],
  lengths: [2048],
  samples: 3,
});
const run = runEval({ model, methods, config, batchSize: 3, strict: true });
for await (const event of run) {
  if (event.type === 'record') console.log(`${event.record.id}: ${event.record.score.toFixed(0)}`);
  if (event.type === 'end') console.log(`\n${formatTable(event.summary)}`);
}
model.dispose();
