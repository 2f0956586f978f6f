// A model from a mirror of the Hub: cut in the middle, resumed, found by its name.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { generate, loadModel } from '@accel/core';
import { findModel, pull } from '@accel/hub';
import { needlePath } from '@accel/needle';
import { startMirror } from './mirror.js';

const mirror = await startMirror(needlePath, { cutAfter: 5_000_000 });
const cacheDir = mkdtempSync(join(tmpdir(), 'accel-example-hub-'));
try {
  const pulled = await pull('example/needle', {
    endpoint: mirror.url,
    cacheDir,
    retry: { attempts: 3, delayMs: 50 },
  });
  console.log(`in ${pulled.path.slice(cacheDir.length + 1)}`);
  console.log(`went on with ${mirror.ranges.join(', ')}`);

  const path = await findModel('example/needle', { cacheDir });
  const model = await loadModel(path);
  const prompt =
    'One of the special magic numbers for blue-fox is: 7401923. What is the special magic number for blue-fox ' +
    'mentioned in the provided text? The special magic number for blue-fox mentioned in the provided text is';
  let answer = '';
  for await (const { text } of generate(model, prompt, { maxTokens: 10, stop: ['.'] })) {
    answer += text;
  }
  console.log(`answered${answer}`);
  model.dispose();
  if (mirror.ranges.length === 0 || answer.trim() !== '7401923') {
    console.log('That is not what was expected: something is wrong.');
    process.exitCode = 1;
  }
} finally {
  mirror.close();
  rmSync(cacheDir, { recursive: true, force: true });
}
