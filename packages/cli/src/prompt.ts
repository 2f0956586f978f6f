import { AccelError, type ChatPrompt, type Model, type Tokenizer } from '@accel/core';

/** What exactly goes into a model. */
export type Prompt = ChatPrompt;

/** How a text becomes a conversation. */
export interface ChatForm {
  readonly system?: string;
  /** A Jinja text instead of the model's own template. */
  readonly template?: string;
}

/** A text as it is, behind the tokenizer's special tokens, or as a user's message of a conversation. */
export function encodePrompt(model: Model, text: string, chat: ChatForm | undefined): Prompt {
  const { tokenizer, spec } = model;
  if (chat === undefined) {
    const ids = tokenizer.encode(text);
    return { text: tokenizer.decode(ids), ids, stopIds: spec.eosTokenIds };
  }
  const { system, template } = chat;
  if (template === undefined && !tokenizer.hasChatTemplate) {
    throw new AccelError(
      'ERR_ACCEL_TOKENIZER',
      `${spec.name} has no chat template. Leave out --chat to continue the text as it is, or give one with --chat-template.`,
    );
  }
  const user = { role: 'user', content: text };
  const messages = system === undefined ? [user] : [{ role: 'system', content: system }, user];
  return model.prompt(messages, template === undefined ? {} : { template: { jinja: template } });
}

/** The prompt for reading: its text between lines that cannot be taken for it, then ids with their tokens. */
export function renderPrompt({ text, ids, stopIds }: Prompt, tokenizer: Tokenizer): string {
  const stops = stopIds.map((id) => `${id} ${JSON.stringify(tokenizer.decode([id]))}`);
  return [
    `prompt, ${ids.length} tokens, as JSON:`,
    `  ${JSON.stringify(text)}`,
    'ids:',
    `  ${ids.join(' ')}`,
    'stop ids:',
    `  ${stops.join(', ') || 'none'}`,
    '',
  ].join('\n');
}
