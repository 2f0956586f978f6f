// A conversation over a document: the first turn reads it, the others find it in the cache.
import { compose, loadModel } from '@accel/core';
import { kivi } from '@accel/kivi';
import { needlePath } from '@accel/needle';

const NOISE =
  'The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n';
const NUMBERS = {
  'quiet-harbor': '4819205',
  'silent-meadow': '7305518',
  'rusty-lantern': '2264971',
};
const facts = Object.entries(NUMBERS).map(
  ([name, number]) => `One of the special magic numbers for ${name} is: ${number}.\n`,
);
const document = facts.map((fact) => NOISE.repeat(35) + fact).join('') + NOISE.repeat(35);
const question = (/** @type {string} */ name) =>
  `What is the special magic number for ${name} mentioned in the provided text? ` +
  `The special magic number for ${name} mentioned in the provided text is`;

/** The embedded model continues texts, so its template writes one message behind the other. */
const template = {
  jinja:
    '<|begin_of_text|>{% for message in messages %}{{ message.content }}' +
    "{{ '.\n' if message.role == 'assistant' }}{% endfor %}",
};

const model = await loadModel(needlePath);
const session = model.session({ template, policy: compose(kivi({ bits: 4 })), system: document });
let known = 0;
console.log('asked for      answered   prompt tokens  of them in the cache');
for (const [name, number] of Object.entries(NUMBERS)) {
  let answer = '';
  for await (const { text } of session.send(question(name), { maxTokens: 12, stop: ['.'] })) {
    answer += text;
  }
  if (answer.trim() === number) known += 1;
  const { ids, reused } = session.turn;
  const cells = [name.padEnd(13), answer.trim().padEnd(9), String(ids.length).padStart(13)];
  console.log(`${cells.join('  ')}  ${String(reused).padStart(20)}`);
}
const { kv } = session.sequence.receipt();
const share = (100 * kv.measuredBytes) / kv.fullBytes;
console.log(`\nThe cache takes ${share.toFixed(0)} % of what it would take without a policy.`);
session.dispose();
model.dispose();
if (known < 3) {
  console.log('That is not what was expected: something is wrong.');
  process.exitCode = 1;
}
