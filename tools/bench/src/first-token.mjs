// How time to first token grows with the prompt: seconds = a · n + b · n², fitted on t / n. Only attention looks at
// earlier rows, so b is attention's share and everything else must be in a.
import { loadModel } from '@accel/core';
import { needlePath } from '@accel/needle';
import { tokens } from './tokens.mjs';

const model = await loadModel(needlePath, { dtype: 'bfloat16' });
await seconds(512); // warm up
const points = [];
for (const n of [1024, 2048, 4096, 8192, 16000]) points.push([n, await seconds(n)]);
const [a, b] = line(points.map(([n, time]) => [n, time / n]));
console.log('tokens  seconds   a·n + b·n²');
for (const [n, time] of points) {
  const fitted = a * n + b * n * n;
  console.log(
    `${String(n).padStart(6)}  ${time.toFixed(3).padStart(7)}  ${fitted.toFixed(3).padStart(11)}`,
  );
}
console.log(`a = ${(a * 1e6).toFixed(1)} µs a token, b = ${(b * 1e9).toFixed(2)} ns a token²`);
model.dispose();

async function seconds(n) {
  const sequence = model.sequence();
  const started = performance.now();
  await sequence.append(tokens(n, model.spec.vocabSize));
  const elapsed = (performance.now() - started) / 1000;
  sequence.dispose();
  return elapsed;
}

/** Least squares y = a + b · x. */
function line(pairs) {
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const x = mean(pairs.map(([at]) => at));
  const y = mean(pairs.map(([, value]) => value));
  const slope =
    mean(pairs.map(([at, value]) => (at - x) * (value - y))) /
    mean(pairs.map(([at]) => (at - x) ** 2));
  return [y - slope * x, slope];
}
