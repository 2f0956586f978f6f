import { AccelError } from '@accel/kernels';
import { Template } from '@huggingface/jinja';

/** A message of a conversation. Templates may read more keys, for example `tool_calls`. */
export interface ChatMessage {
  readonly role: string;
  readonly content?: unknown;
  readonly [key: string]: unknown;
}

/** Options of a chat template. */
export interface ChatOptions {
  /** End with the beginning of an answer. Default true. */
  readonly addGenerationPrompt?: boolean;
  /** Functions that the model may call, in the format that its template expects. */
  readonly tools?: readonly unknown[];
  /** Name of the template, for models with several. Default `tool_use` if there are tools and such a template, else `default`. */
  readonly template?: string;
  /** Further variables of the template, for example `enable_thinking`. */
  readonly variables?: Readonly<Record<string, unknown>>;
}

/** The chat templates of a model. */
export class ChatTemplate {
  readonly #sources: Readonly<Record<string, string>>;
  readonly #compiled = new Map<string, Template>();
  readonly #specialTokens: Readonly<Record<string, string>>;

  /**
   * @param sources Jinja texts by name
   * @param specialTokens variables such as `bos_token`
   */
  constructor(
    sources: Readonly<Record<string, string>>,
    specialTokens: Readonly<Record<string, string>>,
  ) {
    this.#sources = sources;
    this.#specialTokens = specialTokens;
  }

  /** @throws AccelError `ERR_ACCEL_TOKENIZER` when the template is invalid or refuses the messages */
  render(messages: readonly ChatMessage[], options: ChatOptions = {}): string {
    const { tools, variables, addGenerationPrompt = true } = options;
    const template = this.#template(options.template ?? this.#choose(tools));
    try {
      return template.render({
        ...this.#specialTokens,
        ...variables,
        messages,
        ...(tools !== undefined && { tools }),
        add_generation_prompt: addGenerationPrompt,
      });
    } catch (error) {
      throw new AccelError(
        'ERR_ACCEL_TOKENIZER',
        `The model's chat template refuses these messages: ${(error as Error).message}. Check roles, their order and the content of each message.`,
        { cause: error },
      );
    }
  }

  #choose(tools: readonly unknown[] | undefined): string {
    const names = Object.keys(this.#sources);
    if (tools !== undefined && names.includes('tool_use')) return 'tool_use';
    return names.length === 1 ? (names[0] ?? 'default') : 'default';
  }

  #template(name: string): Template {
    const known = this.#compiled.get(name);
    if (known !== undefined) return known;
    const source = Object.hasOwn(this.#sources, name) ? this.#sources[name] : undefined;
    if (source === undefined) {
      throw new AccelError(
        'ERR_ACCEL_TOKENIZER',
        `The model has no chat template called "${name}". It has: ${Object.keys(this.#sources).join(', ')}.`,
      );
    }
    try {
      const template = new Template(source);
      this.#compiled.set(name, template);
      return template;
    } catch (error) {
      throw new AccelError(
        'ERR_ACCEL_TOKENIZER',
        `The model's chat template is not valid Jinja: ${(error as Error).message}. Fetch tokenizer_config.json again, or write the prompt yourself.`,
        { cause: error },
      );
    }
  }
}
