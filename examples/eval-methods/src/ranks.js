// Why H2O loses a needle that the last queries find: where the needle's rows stand in its ranking, and in that of the last
// 32 queries, when the prompt ends. A number is hidden in 4,000 tokens of noise and asked for at the end.
//
//   node examples/eval-methods/src/ranks.js
import { compose, freezePart, loadModel } from '@accel/core';
import { ops, Tensor } from '@accel/kernels';
import { needlePath } from '@accel/needle';

const NOISE =
  'The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n';
const NUMBER = '7305518';
const NEEDLE = `One of the special magic numbers for silent-meadow is: ${NUMBER}.\n`;
const QUESTION =
  'What is the special magic number for silent-meadow mentioned in the provided text? ' +
  'The special magic number for silent-meadow mentioned in the provided text is';
const [LINES, WINDOW, BUDGET] = [160, 32, 1024];

const model = await loadModel(needlePath, { dtype: 'float32' });
const { layers, kvHeads } = model.spec;
const encode = (text, addSpecial = false) => model.tokenizer.encode(text, { addSpecial });

/** Reads both scores of every row at the end of a layer; evicts nothing. */
function watcher(seen) {
  const create = ({ device, tallies }) => ({
    prefillEnd({ layer, kv, rows, queries, scale, stream }) {
      const all = Tensor.empty(device, 'float32', [kvHeads, rows]);
      const last = Tensor.empty(device, 'float32', [kvHeads, rows]);
      ops.tallyRead(stream, all, kv.kv(layer), tallies[0]);
      ops.observeScores(stream, last, queries, kv.kv(layer), { scale, reduce: 'mean' });
      seen.push(Promise.all([all.read(stream), last.read(stream)]));
      for (const tensor of [all, last]) tensor.dispose();
    },
    fork: () => create({ device, tallies }),
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
    tallies: [{ kind: 'attention', reduce: 'mean', of: 'prompts' }],
    create,
  });
}

/** The best rank, from 1, of some rows among the first `count` scores. */
function bestRank(scores, rows, count) {
  const top = Math.max(...rows.map((row) => scores[row]));
  let above = 1;
  for (let row = 0; row < count; row++) if (scores[row] > top) above += 1;
  return above;
}

const ranks = { h2o: [], last: [] };
for (let depth = 1; depth <= 8; depth++) {
  const line = Math.round((LINES * depth) / 10);
  const before = encode(NOISE.repeat(line) + NEEDLE.slice(0, NEEDLE.indexOf(NUMBER)), true).length;
  const prompt = encode(NOISE.repeat(line) + NEEDLE + NOISE.repeat(LINES - line) + QUESTION, true);
  const digits = Array.from({ length: NUMBER.length }, (_, i) => before + i);
  const seen = [];
  const sequence = model.sequence({ policy: compose(watcher(seen)) });
  await sequence.append(prompt);
  for (const [all, last] of await Promise.all(seen)) {
    const rows = prompt.length;
    for (let head = 0; head < kvHeads; head++) {
      const of = (scores) => scores.subarray(head * rows, (head + 1) * rows);
      // H2O chooses among all but the newest half of its budget, SnapKV among all but the window.
      const h2o = bestRank(of(all), digits, rows - BUDGET / 2);
      const snap = bestRank(of(last), digits, rows - WINDOW);
      ranks.h2o.push(h2o);
      ranks.last.push(snap);
    }
  }
  sequence.dispose();
}
model.dispose();

const pairs = ranks.h2o.length;
const middle = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];
const best = (list) => Math.min(...list);
console.log(`${pairs} pairs of (prompt, layer, head), ${layers} layers, about 4,000 rows each.`);
console.log('Best-placed digit of the number:');
for (const [name, list, room] of [
  ['attention of all queries (H2O)', ranks.h2o, BUDGET / 2],
  [`attention of the last ${WINDOW} queries`, ranks.last, BUDGET - WINDOW],
]) {
  const kept = list.filter((rank) => rank <= room).length;
  console.log(
    `  ${name}: rank ${best(list)} at best, ${middle(list)} in the middle; among the ${room} that stay in ${kept} of ${pairs}`,
  );
}
