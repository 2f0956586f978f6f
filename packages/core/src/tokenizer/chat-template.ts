import { AccelError } from '@accel/kernels';
import { JinjaTemplate } from './jinja.js';
import { type ChatMessage, type ChatTool, joinParts } from './messages.js';

/** Options of a chat template. */
export interface ChatOptions {
  /** End with the beginning of an answer. Default true. */
  readonly addGenerationPrompt?: boolean;
  /** Functions that the model may call. Default none; an empty list is none. */
  readonly tools?: readonly ChatTool[];
  /** Texts to answer from, for templates that take them. Default none. */
  readonly documents?: readonly Readonly<Record<string, unknown>>[];
  /**
   * Name of the template, for models with several, or `{ jinja }` with the text of another one. Default `tool_use` if
   * there are tools and such a template, else `default`.
   */
  readonly template?: string | { readonly jinja: string };
  /** Further variables of the template, for example `enable_thinking` or `date_string`. */
  readonly variables?: Readonly<Record<string, unknown>>;
  /** The date that templates print with `strftime_now`. Default now. */
  readonly now?: Date;
}

/** The chat templates of a model. */
export class ChatTemplate {
  readonly #sources: Readonly<Record<string, string>>;
  readonly #compiled = new Map<string, JinjaTemplate>();
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

  /**
   * Renders a conversation as transformers' `apply_chat_template` does.
   * @throws AccelError `ERR_ACCEL_TOKENIZER` when the template is invalid or refuses the messages
   */
  render(messages: readonly ChatMessage[], options: ChatOptions = {}): string {
    const { documents, variables, addGenerationPrompt = true, now = new Date() } = options;
    const tools = options.tools?.length === 0 ? undefined : options.tools;
    const template = this.#compile(this.#source(options.template ?? this.#choose(tools)));
    try {
      return template.render(
        {
          ...this.#specialTokens,
          ...variables,
          messages: template.readsParts ? messages : joinParts(messages),
          // transformers always defines these two.
          tools: tools ?? null,
          documents: documents ?? null,
          add_generation_prompt: addGenerationPrompt,
        },
        now,
      );
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

  #source(template: string | { readonly jinja: string }): string {
    if (typeof template === 'object') return template.jinja;
    const source = Object.hasOwn(this.#sources, template) ? this.#sources[template] : undefined;
    if (source !== undefined) return source;
    const names = Object.keys(this.#sources).join(', ');
    throw new AccelError(
      'ERR_ACCEL_TOKENIZER',
      names === ''
        ? `The model comes without a chat template. Give one with the option template: { jinja }, or encode a prompt written by yourself.`
        : `The model has no chat template called "${template}". It has: ${names}.`,
    );
  }

  #compile(source: string): JinjaTemplate {
    const known = this.#compiled.get(source);
    if (known !== undefined) return known;
    try {
      const template = new JinjaTemplate(source);
      this.#compiled.set(source, template);
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
