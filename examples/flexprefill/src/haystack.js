/** RULER's noise sentence; about 25 tokens for the embedded model. */
const NOISE =
  'The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.';

/**
 * A question about one number hidden in noise, in RULER's words.
 *
 * @param {(text: string) => number} count tokens of a text
 * @param {{ key: string, value: string, depth: number, tokens: number }} needle depth from 0 (start) to 1 (end)
 * @returns {string} a prompt of at most `tokens` tokens
 */
export function haystack(count, { key, value, depth, tokens }) {
  const build = (/** @type {number} */ sentences) => {
    const lines = Array.from({ length: sentences }, () => NOISE);
    lines.splice(
      Math.floor(depth * sentences),
      0,
      `One of the special magic numbers for ${key} is: ${value}.`,
    );
    return (
      'A special magic number is hidden within the following text. Make sure to memorize it. ' +
      `I will quiz you about the number afterwards.\n${lines.join('\n')}\n` +
      `What is the special magic number for ${key} mentioned in the provided text? ` +
      `The special magic number for ${key} mentioned in the provided text is`
    );
  };
  const [none, hundred] = [count(build(0)), count(build(100))];
  return build(Math.floor((tokens - none) / ((hundred - none) / 100)));
}
