import type { ModelSpec } from '../config/spec.js';
import type { ChatOptions } from '../tokenizer/chat-template.js';
import type { ChatMessage } from '../tokenizer/messages.js';
import type { Tokenizer } from '../tokenizer/tokenizer.js';
import { endOfTurnIds } from './stop-ids.js';

/** What a conversation becomes before it goes into the model. */
export interface ChatPrompt {
  /** The rendered template, special tokens included. */
  readonly text: string;
  /** Its token ids, exactly as they are fed. */
  readonly ids: Int32Array;
  /**
   * Ids that end an answer: `eos_token_id` of generation_config.json and config.json, then the tokens with which the
   * template ends an assistant's message.
   */
  readonly stopIds: readonly number[];
}

/**
 * Renders and encodes a conversation. Like transformers' `apply_chat_template` it adds no special tokens to what the
 * template writes, so there is never a second beginning-of-text token.
 * @throws AccelError `ERR_ACCEL_TOKENIZER` without a template, or when it refuses the messages
 */
export function chatPrompt(
  tokenizer: Tokenizer,
  spec: Pick<ModelSpec, 'eosTokenIds'>,
  messages: readonly ChatMessage[],
  options: ChatOptions = {},
): ChatPrompt {
  const text = tokenizer.chat(messages, options);
  return {
    text,
    ids: tokenizer.encode(text, { addSpecial: false }),
    stopIds: [...new Set([...spec.eosTokenIds, ...endOfTurnIds(tokenizer, options)])],
  };
}
