/** RULER's noise sentence; about 25 tokens for the embedded model. */
const NOISE =
  'The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.';

/**
 * Numbers hidden in noise, in RULER's words.
 *
 * @param {readonly { key: string, value: string, depth: number }[]} needles depth from 0 (start) to 1 (end), ascending
 * @param {number} sentences of noise
 */
export function haystack(needles, sentences) {
  const lines = Array.from({ length: sentences }, () => NOISE);
  for (const [i, { key, value, depth }] of needles.entries()) {
    const at = Math.floor(depth * sentences) + i;
    lines.splice(at, 0, `One of the special magic numbers for ${key} is: ${value}.`);
  }
  return (
    'Some special magic numbers are hidden within the following text. Make sure to memorize them. ' +
    `I will quiz you about the numbers afterwards.\n${lines.join('\n')}\n`
  );
}

/** @param {{ key: string }} needle */
export function question({ key }) {
  return (
    `What is the special magic number for ${key} mentioned in the provided text? ` +
    `The special magic number for ${key} mentioned in the provided text is`
  );
}
