import type { Tokenizer } from '../tokenizer/tokenizer.js';
import type { ChatPrompt } from './prompt.js';

/** What a sequence has seen. */
export interface Cached {
  /** Text of the ids, special tokens included. */
  readonly text: string;
  readonly ids: readonly number[];
}

/**
 * The ids that bring a sequence to the end of a prompt.
 *
 * A model may have written its text with other tokens than the tokenizer would, which is no reason to feed it again.
 * So texts are compared where ids differ; the rest is cut from the ids of the whole prompt, because text encoded by
 * itself may become other tokens (SentencePiece puts a space in front).
 * @returns undefined when the prompt is not a continuation of what was seen
 */
export function continuation(
  tokenizer: Tokenizer,
  cached: Cached,
  prompt: Pick<ChatPrompt, 'text' | 'ids'>,
): Int32Array | undefined {
  if (startsWith(prompt.ids, cached.ids)) return prompt.ids.slice(cached.ids.length);
  if (!prompt.text.startsWith(cached.text)) return undefined;
  const usual = tokenizer.encode(cached.text, { addSpecial: false });
  return startsWith(prompt.ids, usual) ? prompt.ids.slice(usual.length) : undefined;
}

function startsWith(ids: Int32Array, head: ArrayLike<number>): boolean {
  if (head.length > ids.length) return false;
  for (let i = 0; i < head.length; i++) if (ids[i] !== head[i]) return false;
  return true;
}
