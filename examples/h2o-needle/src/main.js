// Two numbers are in a text. One is asked for a few times, the other never. Then small talk fills the cache several times
// over, and both are asked for. H2O keeps what received attention, so it knows the first and not the second;
// StreamingLLM keeps what is new, so it knows neither.
import { compose, loadModel } from '@accel/core';
import { h2o } from '@accel/h2o';
import { needlePath } from '@accel/needle';
import { streamingllm } from '@accel/streamingllm';

const CHATTER =
  'The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n';
const ROWS = 512;
const ASKED = { place: 'quiet-harbor', number: '4819205' };
const IGNORED = { place: 'silent-meadow', number: '7305518' };

const hidden = ({ place, number }) =>
  `One of the special magic numbers for ${place} is: ${number}.\n`;
const question = ({ place }) =>
  `What is the special magic number for ${place} mentioned in the provided text? ` +
  `The special magic number for ${place} mentioned in the provided text is`;

const model = await loadModel(needlePath);

/** One conversation. Returns the answers to both questions at its end. */
async function converse(name, policy) {
  const sequence = model.sequence({ policy });
  const append = (text) =>
    sequence.append(model.tokenizer.encode(text, { addSpecial: sequence.length === 0 }));
  const ask = async (about) => {
    await append(question(about));
    let answer = '';
    for await (const token of sequence.generate({ maxTokens: 12, stop: ['.', '\n'] }))
      answer += token.text;
    return answer.trim();
  };
  try {
    await append(CHATTER.repeat(6) + hidden(ASKED) + hidden(IGNORED) + CHATTER.repeat(4));
    for (let i = 0; i < 4; i++) {
      await ask(ASKED);
      await append('.\n');
    }
    for (let i = 0; i < 10; i++) await append(CHATTER.repeat(10));
    const first = await ask(ASKED);
    await append('.\n');
    const second = await ask(IGNORED);
    const { kv, layers } = sequence.receipt();
    const positions = [...(await sequence.view().positions(0, 0))];
    const old = positions.filter((position) => position < sequence.length - ROWS).length;
    console.log(`${name}, ${layers[0].rowsKept[0]} rows a head after ${sequence.length} tokens:`);
    console.log(`  asked for before, ${ASKED.number}: ${first}`);
    console.log(`  never asked for, ${IGNORED.number}: ${second}`);
    console.log(
      `  ${old} rows of the first head are older than the last ${ROWS} tokens; ` +
        `cache ${(kv.measuredBytes / 2 ** 20).toFixed(2)} MiB\n`,
    );
    return first;
  } finally {
    sequence.dispose();
  }
}

const heavy = await converse('H2O', compose(h2o({ budget: { tokens: ROWS } })));
const window = await converse('StreamingLLM', compose(streamingllm({ budget: { tokens: ROWS } })));
model.dispose();
if (!heavy.includes(ASKED.number) || window.includes(ASKED.number)) {
  console.log('That is not what was expected: something is wrong.');
  process.exitCode = 1;
}
