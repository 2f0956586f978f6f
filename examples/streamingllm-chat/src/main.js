// A conversation of 20,000 tokens with a model whose window is 16,384, in a cache of 1,024 rows.
// Every turn the user mentions a number in passing and asks for it. The newest one is always known;
// one from long ago is gone: StreamingLLM makes streams endless, it does not make memory endless.
import { compose, loadModel } from '@accel/core';
import { needlePath } from '@accel/needle';
import { streamingllm } from '@accel/streamingllm';

const CHATTER =
  'The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n';
const COLOURS = ['amber', 'silent', 'golden', 'rusty', 'hollow', 'crimson', 'windy'];
const PLACES = [
  'harbor',
  'meadow',
  'canyon',
  'glacier',
  'orchard',
  'lantern',
  'compass',
  'thunder',
];

const model = await loadModel(needlePath);
const policy = compose(streamingllm({ sink: 4, recent: 1020 }));
const sequence = model.sequence({ policy });

/** One turn: a message goes in, the answer comes out. */
async function say(message) {
  await sequence.append(model.tokenizer.encode(message, { addSpecial: sequence.length === 0 }));
  let answer = '';
  for await (const token of sequence.generate({ maxTokens: 12, stop: ['.', '\n'] }))
    answer += token.text;
  return answer.trim();
}

const placeOf = (/** @type {number} */ turn) => `${COLOURS[turn % 7]}-${PLACES[turn % 8]}`;
const numberOf = (/** @type {number} */ turn) =>
  String(1_000_000 + (((turn + 1) * 6_180_339) % 9_000_000));
const question = (/** @type {string} */ place) =>
  `What is the special magic number for ${place} mentioned in the provided text? ` +
  `The special magic number for ${place} mentioned in the provided text is`;

let known = 0;
let turns = 0;
/** @type {number[]} */
const bytes = [];
console.log('turn  tokens seen  rows  cache KiB  asked     answered');
while (sequence.length < 20_000) {
  const [place, number] = [placeOf(turns), numberOf(turns)];
  const answer = await say(
    `\n${CHATTER.repeat(8)}One of the special magic numbers for ${place} is: ${number}.\n` +
      `${CHATTER.repeat(8)}${question(place)}`,
  );
  const { kv, layers } = sequence.receipt();
  if (answer.includes(number)) known += 1;
  bytes.push(kv.measuredBytes);
  if (turns % 5 === 0) {
    const cells = [turns + 1, sequence.length, layers[0].rowsKept[0], kv.measuredBytes / 1024];
    const widths = [4, 11, 4, 9];
    const row = cells.map((cell, index) => String(Math.round(cell)).padStart(widths[index]));
    console.log(`${row.join('  ')}  ${number}   ${answer}`);
  }
  turns += 1;
}
const last = sequence.receipt();
const forgotten = await say(`\n${question(placeOf(0))}`);
console.log(
  `\n${sequence.length} tokens in ${turns} turns; the model's window is ${model.spec.contextLength}.`,
);
console.log(`The newest number was known ${known} of ${turns} times.`);
console.log(`Asked again for the first one, ${numberOf(0)}: ${forgotten}. It has left the window.`);
const settled = bytes.slice(Math.ceil(turns / 4));
const [least, most] = [Math.min(...settled), Math.max(...settled)];
console.log(
  `Once the window was full the cache held ${(least / 2 ** 20).toFixed(2)} to ${(most / 2 ** 20).toFixed(2)} MiB ` +
    `(pages at both ends of the window are partly full); all ${sequence.length} rows would take ` +
    `${(last.kv.fullBytes / 2 ** 20).toFixed(1)} MiB.`,
);
sequence.dispose();
model.dispose();
if (most > 1.05 * least || known < 0.8 * turns) process.exitCode = 1;
