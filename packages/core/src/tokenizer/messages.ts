/** Text of a message's content given in parts, as OpenAI's API has them. */
export interface TextPart {
  readonly type: 'text';
  readonly text: string;
}

/** A function that the model may call. */
export interface ChatTool {
  readonly type: 'function';
  readonly function: {
    readonly name: string;
    readonly description?: string;
    /** JSON schema of the arguments. */
    readonly parameters?: Readonly<Record<string, unknown>>;
    readonly [key: string]: unknown;
  };
}

/** A call that the model made. */
export interface ToolCall {
  readonly id?: string;
  readonly type?: 'function';
  readonly function: {
    readonly name: string;
    /** An object, which most templates write as JSON; some (DeepSeek's) want the JSON text itself. */
    readonly arguments: Readonly<Record<string, unknown>> | string;
  };
}

/** A message of a conversation. Templates may read more keys than these, and know more roles. */
export interface ChatMessage {
  /** Who says it. GLM-4 calls results of tools `observation`. */
  readonly role: 'system' | 'user' | 'assistant' | 'tool' | (string & {});
  /** What is said: a text, or parts of one. A template that does not go through parts gets them joined. */
  readonly content?: string | readonly TextPart[] | null;
  /** Calls that an assistant's message makes. */
  readonly tool_calls?: readonly ToolCall[];
  /** Which call a tool's message answers. */
  readonly tool_call_id?: string;
  /** Thoughts before an assistant's answer, for templates that keep them apart. */
  readonly reasoning_content?: string;
  readonly [key: string]: unknown;
}

/** Messages whose content is a text where it was parts. */
export function joinParts(messages: readonly ChatMessage[]): ChatMessage[] {
  return messages.map((message) => {
    const { content } = message;
    if (typeof content === 'string' || !Array.isArray(content)) return message;
    if (!content.every(isText)) return message;
    return { ...message, content: content.map(({ text }) => text).join('') };
  });
}

function isText(part: unknown): part is TextPart {
  return typeof part === 'object' && part !== null && 'type' in part && part.type === 'text';
}
