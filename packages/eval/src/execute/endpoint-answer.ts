import { z } from 'zod';
import { RequestFailed } from './endpoint-failure.js';

/** What a server said to one turn. */
export interface TurnAnswer {
  readonly text: string;
  readonly promptTokens: number;
  readonly newTokens: number;
  readonly finish: 'eos' | 'stop' | 'length';
  /** From the request to the first text: reading the prompt, waiting in the server's queue included. */
  readonly firstSeconds: number;
  /** From the first text to the last. */
  readonly restSeconds: number;
}

/** A chunk of either API. vLLM names the stop text in `stop_reason`; others do not say why an answer stopped. */
const chunkSchema = z.object({
  choices: z
    .array(
      z.object({
        text: z.string().nullish(),
        delta: z.object({ content: z.string().nullish() }).nullish(),
        finish_reason: z.string().nullish(),
        stop_reason: z.unknown().optional(),
      }),
    )
    .default([]),
  usage: z.object({ prompt_tokens: z.number(), completion_tokens: z.number() }).nullish(),
  error: z.unknown().optional(),
});

/** Puts the chunks of a streamed answer together and times them. */
export class AnswerReader {
  readonly #sent = performance.now();
  #first: number | undefined;
  #last = this.#sent;
  #text = '';
  #finish: TurnAnswer['finish'] | undefined;
  #usage: { prompt_tokens: number; completion_tokens: number } | undefined;

  onEvent(event: unknown): void {
    const parsed = chunkSchema.safeParse(event);
    if (!parsed.success) {
      throw new RequestFailed(`its chunks are not OpenAI's: ${z.prettifyError(parsed.error)}`);
    }
    const { choices, usage, error } = parsed.data;
    if (error !== undefined && error !== null) {
      throw new RequestFailed(`it failed while it answered: ${JSON.stringify(error)}`, {
        passing: true,
        own: true,
      });
    }
    this.#usage = usage ?? this.#usage;
    for (const choice of choices) {
      const text = choice.text ?? choice.delta?.content ?? '';
      if (text !== '' || typeof choice.finish_reason === 'string') {
        this.#last = performance.now();
        this.#first ??= this.#last;
      }
      this.#text += text;
      if (choice.finish_reason === 'length') this.#finish = 'length';
      else if (typeof choice.finish_reason === 'string') {
        this.#finish = typeof choice.stop_reason === 'string' ? 'stop' : 'eos';
      }
    }
  }

  end(): TurnAnswer {
    if (this.#finish === undefined) {
      throw new RequestFailed('its answer has no finish_reason', { passing: true, own: true });
    }
    if (this.#usage === undefined) {
      throw new RequestFailed(
        'it does not count tokens: it ignores stream_options.include_usage. Take a newer version of the server',
      );
    }
    const first = this.#first ?? this.#last;
    return {
      text: this.#text,
      promptTokens: this.#usage.prompt_tokens,
      newTokens: this.#usage.completion_tokens,
      finish: this.#finish,
      firstSeconds: (first - this.#sent) / 1000,
      restSeconds: (this.#last - first) / 1000,
    };
  }
}
