import type { PromptMeter, QuestionSample } from '../benchmark/types.js';

/** A sample whose text was cut, and how long its prompt was before. */
export interface CutSample {
  readonly sample: QuestionSample;
  /** Tokens of the prompt before; undefined when nothing was cut. */
  readonly cutFrom?: number;
}

/**
 * Cuts a prompt that is too long in the middle, as LongBench and the seed toolkit do: the first and the last half of the
 * tokens allowed stay, decoded without special tokens. Template and answer prefix are not touched.
 *
 * @param most tokens that the prompt may have, template and answer prefix included
 */
export function cutMiddle(sample: QuestionSample, meter: PromptMeter, most: number): CutSample {
  const user = sample.context + sample.question;
  const whole = meter.countTokens(meter.wrap(user) + sample.answerPrefix);
  if (whole <= most) return { sample };
  const ids = meter.encode(user);
  const around = whole - ids.length;
  const half = Math.max(0, Math.floor((most - around) / 2));
  const head = meter.decode(ids.subarray(0, half));
  const tail = meter.decode(ids.subarray(ids.length - half));
  // The question is at the end, so it normally survives as it was; else there is nothing left to keep apart.
  const survives = tail.endsWith(sample.question);
  const context = survives
    ? head + tail.slice(0, tail.length - sample.question.length)
    : head + tail;
  return {
    sample: { ...sample, context, question: survives ? sample.question : '' },
    cutFrom: whole,
  };
}
