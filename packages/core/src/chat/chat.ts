import type { GenerateOptions, TokenEvent } from '../generate.js';
import type { Model } from '../model.js';
import type { SequenceOptions } from '../sequence.js';
import type { ChatOptions } from '../tokenizer/chat-template.js';
import type { ChatMessage } from '../tokenizer/messages.js';

/** Options of {@link Model.chat}: of the template, of the sequence and of the generation. */
export interface ChatGenerateOptions extends ChatOptions, SequenceOptions, GenerateOptions {}

/** The answer to a conversation, on a sequence of its own that is disposed in the end. */
export async function* chat(
  model: Model,
  messages: readonly ChatMessage[],
  options: ChatGenerateOptions,
): AsyncGenerator<TokenEvent, void, undefined> {
  const { ids, stopIds } = model.prompt(messages, options);
  using sequence = model.sequence(options);
  await sequence.append(ids, options.signal === undefined ? {} : { signal: options.signal });
  yield* sequence.generate(answerOptions(options, stopIds));
}

/** Options of a generation that ends with the answer; `ignoreEos` keeps its meaning. */
export function answerOptions(
  options: GenerateOptions,
  stopIds: readonly number[],
): GenerateOptions {
  if (options.ignoreEos === true) return options;
  return { ...options, stopTokens: [...stopIds, ...(options.stopTokens ?? [])] };
}
