import type { EvalTask, PromptMeter, QuestionSample } from '../benchmark/types.js';
import { argumentError } from '../errors.js';
import type { Needle } from './forms.js';
import type { Hay } from './hay.js';
import { insertNeedle } from './insert.js';

/** One cell of the grid, and which of its samples. */
interface Cell {
  readonly index: number;
  /** Percent. */
  readonly depth: number;
  /** How often the depths were gone through before. */
  readonly round: number;
  /** Tokens of the length that are kept free of text and needle. */
  readonly buffer: number;
}

/**
 * Cuts a haystack that fits the task's length and puts the needle into it.
 *
 * @throws AccelError ERR_ACCEL_ARGUMENT when there is no room for a haystack
 */
export function makeSample(
  task: EvalTask,
  cell: Cell,
  needle: Needle,
  hay: Hay,
  meter: PromptMeter,
): QuestionSample {
  const { head, tail, question, firstQuestion, answerPrefix, references } = needle;
  const length = task.length ?? 0;
  let room = length - cell.buffer - meter.countTokens(needle.needle);
  for (;;) {
    if (room <= 0) {
      throw argumentError(
        `${task.id} does not fit: needle, question, answer and the buffer of ${cell.buffer} leave no room for a text. Use a greater length, or a smaller final_context_length_buffer.`,
      );
    }
    const { text, position } = insertNeedle(
      hay.take(cell.round, room),
      needle.needle,
      cell.depth,
      meter,
    );
    const context = head + text + tail;
    const total =
      meter.countTokens(meter.wrap(context + question) + answerPrefix) + task.maxNewTokens;
    if (total <= length) {
      return {
        kind: 'question',
        index: cell.index,
        context,
        question,
        answerPrefix,
        firstQuestion,
        references,
        facts: { depth: cell.depth, position: Math.round(position * 100) / 100 },
      };
    }
    // The buffer is a guess: a long template, question or answer needs more.
    room -= total - length;
  }
}
