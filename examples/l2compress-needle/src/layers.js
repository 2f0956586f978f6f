// Which layers may L2Compress touch? Eight prompts of 2,000 tokens, each with a number at another depth; half of the rows of
// the layers that are not spared stay. And what norms say about attention, layer by layer.
//
//   pnpm --dir examples/l2compress-needle layers
import { compose, freezePart, full, loadModel } from '@accel/core';
import { ops, Tensor } from '@accel/kernels';
import { l2compress } from '@accel/l2compress';
import { needlePath } from '@accel/needle';
import { haystack } from './haystack.js';

const [VALUE, WINDOW] = ['4819205', 32];
const model = await loadModel(needlePath, { dtype: 'float32' });
const { layers, kvHeads, headDim } = model.spec;
const all = Array.from({ length: layers }, (_, layer) => layer);
const prompts = Array.from({ length: 8 }, (_, i) =>
  model.tokenizer.encode(
    haystack((text) => model.tokenizer.encode(text).length, {
      key: 'quiet-harbor',
      value: VALUE,
      depth: (i + 1) / 10,
      tokens: 2000,
    }),
    { addSpecial: true },
  ),
);

async function found(policy) {
  let count = 0;
  for (const prompt of prompts) {
    const sequence = model.sequence({ policy });
    await sequence.append(prompt);
    let answer = '';
    for await (const token of sequence.generate({ maxTokens: 16 })) answer += token.text;
    count += answer.includes(VALUE);
    sequence.dispose();
  }
  return count;
}

const sparing = (spared, keep = 0.5) =>
  compose(l2compress({ budget: { keep }, skipLayers: spared }));
console.log(`layers spared: needles found of ${prompts.length}`);
console.log(`all (full cache): ${await found(full)}`);
for (const layer of all)
  console.log(`all but ${layer}: ${await found(sparing(all.filter((other) => other !== layer)))}`);
for (const spared of [
  [0, 1],
  [0, 1, 4],
  [0, 1, 3, 4],
])
  console.log(`${spared.join(', ')}: ${await found(sparing(spared))}`);
console.log(`0, 1, 3, 4, a quarter of the rows: ${await found(sparing([0, 1, 3, 4], 0.25))}`);

/** Reads keys and what the last queries give them; evicts nothing. */
function watcher(seen) {
  const create = ({ device }) => ({
    prefillEnd({ layer, kv, rows, queries, scale, stream }) {
      const keys = Tensor.empty(device, 'float32', [kvHeads, rows, headDim]);
      const votes = Tensor.empty(device, 'float32', [kvHeads, rows]);
      ops.kvRead(stream, keys, null, null, kv.kv(layer));
      ops.observeScores(stream, votes, queries, kv.kv(layer), { scale, reduce: 'mean' });
      seen.push(Promise.all([keys.read(stream), votes.read(stream)]));
      for (const tensor of [keys, votes]) tensor.dispose();
    },
    fork: () => create({ device }),
    dispose() {},
  });
  return freezePart({
    id: 'watcher',
    slot: 'select',
    needs: [],
    provides: [],
    lossy: false,
    positions: 'original',
    options: {},
    observe: WINDOW,
    create,
  });
}

/** Places of the values when sorted. */
function ranks(values) {
  const order = [...values.keys()].sort((a, b) => values[a] - values[b]);
  const places = new Float64Array(values.length);
  for (const [place, i] of order.entries()) places[i] = place;
  return places;
}

/** Spearman's rank correlation. */
function correlation(a, b) {
  const [x, y] = [ranks(a), ranks(b)];
  const middle = (a.length - 1) / 2;
  let [xy, xx] = [0, 0];
  for (let i = 0; i < a.length; i++) {
    xy += (x[i] - middle) * (y[i] - middle);
    xx += (x[i] - middle) ** 2;
  }
  return xy / xx;
}

const sums = all.map(() => ({ correlation: 0, share: 0, pairs: 0 }));
for (const prompt of prompts) {
  const seen = [];
  const sequence = model.sequence({ policy: compose(watcher(seen)) });
  await sequence.append(prompt);
  for (const [layer, [keys, votes]] of (await Promise.all(seen)).entries()) {
    const rows = prompt.length;
    const past = rows - WINDOW;
    for (let head = 0; head < kvHeads; head++) {
      const norms = Float64Array.from({ length: past }, (_, row) => {
        const at = (head * rows + row) * headDim;
        return Math.hypot(...keys.subarray(at, at + headDim));
      });
      const attention = Float64Array.from(votes.subarray(head * rows, head * rows + past));
      const small = [...norms.keys()].sort((a, b) => norms[a] - norms[b]).slice(0, past / 2);
      const total = attention.reduce((a, b) => a + b, 0);
      sums[layer].correlation += correlation(norms, attention);
      sums[layer].share += small.reduce((sum, row) => sum + attention[row], 0) / total;
      sums[layer].pairs += 1;
    }
  }
  sequence.dispose();
}
model.dispose();
console.log(
  `layer: rank correlation of norm and attention of the last ${WINDOW} queries; attention on the half with small norms`,
);
for (const [layer, { correlation: r, share, pairs }] of sums.entries())
  console.log(`${layer}: ${(r / pairs).toFixed(2)}; ${Math.round((100 * share) / pairs)} %`);
