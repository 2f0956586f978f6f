import { AccelError } from '@accel/kernels';
import type { ChatOptions } from '../tokenizer/chat-template.js';
import type { ChatMessage } from '../tokenizer/messages.js';
import type { Tokenizer } from '../tokenizer/tokenizer.js';

/** What the assistant says in the probe; plain letters, which no template changes. */
const ANSWER = 'Understood';
/** What may come after an answer. GLM-4 ends none: the role of the next message does, a user's or an observation. */
const AFTER: readonly (readonly ChatMessage[])[] = [
  [],
  [{ role: 'user', content: 'Go on' }],
  [{ role: 'tool', content: 'Done', tool_call_id: 'call00001', name: 'act' }],
  [{ role: 'observation', content: 'Done' }],
];

/**
 * The special tokens with which a template ends an assistant's message, such as `<|im_end|>` or `<|eot_id|>`; many
 * configs name only the end of text. A conversation with an answer is rendered, and the special token directly after
 * the answer is taken, white space aside: first with the answer as the last message, then with each kind of message
 * that may follow. A template that refuses such a conversation has nothing to say.
 */
export function endOfTurnIds(tokenizer: Tokenizer, options: ChatOptions): number[] {
  const ids = AFTER.flatMap((next) => {
    const text = rendered(tokenizer, next, options);
    const at = text?.lastIndexOf(ANSWER) ?? -1;
    if (text === undefined || at < 0) return [];
    const tail = text.slice(at + ANSWER.length).trimStart();
    const id = tokenizer.encode(tail, { addSpecial: false })[0];
    return id !== undefined && isSpecial(tokenizer, id) ? [id] : [];
  });
  return [...new Set(ids)];
}

function rendered(
  tokenizer: Tokenizer,
  next: readonly ChatMessage[],
  options: ChatOptions,
): string | undefined {
  const messages = [
    { role: 'user', content: 'Hello' },
    { role: 'assistant', content: ANSWER },
    ...next,
  ];
  try {
    return tokenizer.chat(messages, { ...options, addGenerationPrompt: false });
  } catch (error) {
    if (AccelError.isInstance(error) && error.code === 'ERR_ACCEL_TOKENIZER') return undefined;
    throw error;
  }
}

function isSpecial(tokenizer: Tokenizer, id: number): boolean {
  return tokenizer.decode([id]) !== '' && tokenizer.decode([id], { skipSpecial: true }) === '';
}
