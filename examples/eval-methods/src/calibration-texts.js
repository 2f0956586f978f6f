// Writes prompts of RULER's tasks, none of which the evaluation uses, to a folder: the texts that XAttention's thresholds for
// the embedded model come from.
//
//   node src/calibration-texts.js FOLDER
//   accel calibrate xattention --text FOLDER/*.txt --tokens 8192 --output plans/xattention-needle.json
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadModel } from '@accel/core';
import { generateSamples, loadSources, rulerTask } from '@accel/eval';
import { needlePath } from '@accel/needle';

const TASKS = ['single_1', 'single_2', 'multikey_2', 'multikey_3', 'multivalue', 'multiquery'];
const SEEDS = [777, 778];
const folder = process.argv[2];
if (folder === undefined) {
  console.error('usage: node src/calibration-texts.js FOLDER');
  process.exit(2);
}

const model = await loadModel(needlePath);
const sources = await loadSources();
mkdirSync(folder, { recursive: true });
for (const seed of SEEDS) {
  for (const task of [...TASKS.map((name) => `niah_${name}`), 'vt']) {
    const { input, answerPrefix } = generateSamples(rulerTask(task), {
      countTokens: (text) => model.tokenizer.encode(text, { addSpecial: false }).length,
      length: 8192,
      maxNewTokens: 128,
      seed,
      sources,
    }).next().value;
    writeFileSync(join(folder, `${task}-${seed}.txt`), input + answerPrefix);
  }
}
model.dispose();
