import { encodeOnce, spreadStarts } from '../benchmark/text-windows.js';
import type { PromptMeter, TextSample } from '../benchmark/types.js';
import { argumentError } from '../errors.js';

/** Which windows of a text. */
interface WindowOptions {
  /** Names the task in errors. */
  readonly task: string;
  /** Tokens of a window. */
  readonly length: number;
  /** Tokens at its end that are predicted; fewer than `length`. */
  readonly targetTokens: number;
  readonly seed: number;
}

/**
 * Windows of a text, spread evenly over it, without end; they overlap when there are many. `facts.start` is the token
 * that a window begins with.
 *
 * @throws AccelError ERR_ACCEL_ARGUMENT when the text is shorter than a window, or nothing comes before the target
 */
export function* windowsOf(
  text: string,
  { task, length, targetTokens, seed }: WindowOptions,
  meter: PromptMeter,
): Generator<TextSample | undefined, void> {
  const ids = encodeOnce(text, meter);
  yield undefined;
  const before = length - targetTokens;
  if (ids.length < length || before <= 0) {
    throw argumentError(
      `${task} does not fit: the text has ${ids.length} tokens, the target ${targetTokens}. Use a length of ${targetTokens + 1} to ${ids.length}, or a longer text (text_path).`,
    );
  }
  const startOf = spreadStarts(ids.length - length + 1, seed);
  for (let index = 0; ; index++) {
    const start = startOf(index);
    yield {
      kind: 'text',
      index,
      context: ids.slice(start, start + before),
      target: ids.slice(start + before, start + length),
      facts: { start },
    };
  }
}
