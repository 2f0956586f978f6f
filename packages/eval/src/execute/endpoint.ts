import { AccelError } from '@accel/core';
import { z } from 'zod';
import { argumentError, configError } from '../errors.js';
import { AnswerReader, type TurnAnswer } from './endpoint-answer.js';
import { EndpointClient } from './endpoint-client.js';
import { RequestFailed } from './endpoint-failure.js';
import type { Answer, ExecuteOptions, Executor, Job, Outcome, PromptTurn } from './types.js';

/** Options of {@link endpointExecutor}. */
export interface EndpointOptions {
  /** With the version: `http://localhost:8000/v1`. */
  readonly url: string;
  /** Default: the only one that the server lists. */
  readonly model?: string;
  /** Sent as a bearer token, and never printed. */
  readonly apiKey?: string;
  /**
   * - `completions` (default): the whole rendered prompt, answer prefix included, exactly as our engine is fed.
   * - `chat`: the server's own template around what the user says, for servers that have nothing else. An answer cannot be
   *   begun for the assistant there, so the answer prefix ends the user's message, as in RULER's code for API models.
   */
  readonly api?: 'completions' | 'chat';
  /**
   * What `completions` sends. Default `text`: the server tokenizes, and a text from a chat template asks for
   * `add_special_tokens: false`, which llama.cpp ignores (a second beginning-of-text token, of which a warning tells). `ids`
   * needs the server's model to have the tokenizer of this run, and prompts of one turn.
   */
  readonly prompts?: 'text' | 'ids';
  /** Requests at the same time. Default 8. */
  readonly concurrency?: number;
  /** Longest silence of the server. Default and most 300: fetch itself gives up then. */
  readonly timeoutSeconds?: number;
  /** How often a request is tried again after 408, 429, 5xx, a lost connection or a broken answer. Default 5. */
  readonly retries?: number;
  /** Told once when the server counts other prompt tokens than we do. */
  readonly onWarning?: (message: string) => void;
}

/**
 * Answers jobs with an OpenAI-compatible server (vLLM, llama.cpp, SGLang), greedily. Its cache policy is its own: the jobs'
 * methods are not looked at. Stop ids are not sent, since the protocol has none: the server's own end-of-text ids count.
 * A first turn's time is that until its first token; a prompt that the server has cached is read faster.
 *
 * @throws AccelError ERR_ACCEL_ARGUMENT
 */
export function endpointExecutor(options: EndpointOptions): Executor {
  return new EndpointExecutor(options);
}

const modelsSchema = z.object({ data: z.array(z.object({ id: z.string() })) });

class EndpointExecutor implements Executor {
  readonly slots: number;
  readonly batchSize: number = 1;
  readonly #options: EndpointOptions;
  readonly #client: EndpointClient;
  #model: Promise<string> | undefined;
  #warned = false;

  constructor(options: EndpointOptions) {
    const { url, apiKey, concurrency = 8, timeoutSeconds = 300, retries = 5 } = options;
    if (!URL.canParse(url) || !/^https?:/.test(url)) {
      throw argumentError(
        `"${url}" is not the URL of a server; it looks like http://localhost:8000/v1.`,
      );
    }
    if (!(timeoutSeconds > 0 && timeoutSeconds <= 300)) {
      throw argumentError(
        `timeoutSeconds is ${timeoutSeconds}; give a number above 0, at most 300.`,
      );
    }
    if (!Number.isSafeInteger(concurrency) || concurrency < 1) {
      throw argumentError(`concurrency is ${concurrency}; give a whole number of at least 1.`);
    }
    this.slots = concurrency;
    this.#options = options;
    this.#client = new EndpointClient({ url, apiKey, timeoutSeconds, retries });
  }

  async run(jobs: readonly Job[], options: ExecuteOptions = {}): Promise<Outcome[]> {
    for (const job of jobs) checkJob(job, this.#options);
    return Promise.all(jobs.map((job) => this.#outcome(job, options)));
  }

  async #outcome(job: Job, { signal, onPrefilled }: ExecuteOptions): Promise<Outcome> {
    try {
      const answers: TurnAnswer[] = [];
      for (const turn of job.prompt.turns) {
        answers.push(await this.#ask(job, turn, answers, signal));
        if (answers.length === 1) onPrefilled?.(job.id, answers[0]?.firstSeconds ?? 0);
      }
      const answer = joinTurns(answers);
      this.#compareCounts(job, answer);
      return { answer };
    } catch (error) {
      if (!(error instanceof RequestFailed)) throw error;
      const message = `The server at ${this.#options.url} failed: ${error.message}`;
      if (error.own) return { failure: { code: 'ERR_ACCEL_ENDPOINT', message } };
      throw new AccelError('ERR_ACCEL_ENDPOINT', message, { cause: error });
    }
  }

  async #ask(
    { prompt }: Job,
    turn: PromptTurn,
    before: readonly TurnAnswer[],
    signal: AbortSignal | undefined,
  ): Promise<TurnAnswer> {
    const { api = 'completions', prompts = 'text' } = this.#options;
    const said = prompt.turns.slice(0, before.length + 1);
    const shared = {
      model: await (this.#model ??= this.#findModel(signal)),
      max_tokens: turn.answer,
      temperature: 0,
      stream: true,
      stream_options: { include_usage: true },
      ...(prompt.stop.length > 0 && { stop: prompt.stop }),
    };
    const begin = (): AnswerReader => new AnswerReader();
    if (api === 'chat') {
      const messages = said.flatMap(({ text, user, answerPrefix = '' }, i) => [
        { role: 'user', content: user === undefined ? text : user + answerPrefix },
        ...(i < before.length ? [{ role: 'assistant', content: before[i]?.text ?? '' }] : []),
      ]);
      return this.#client.stream('/chat/completions', { ...shared, messages }, begin, signal);
    }
    const text = said.map((each, i) => each.text + (before[i]?.text ?? '')).join('');
    const body = {
      ...shared,
      prompt: prompts === 'ids' ? [...turn.ids] : text,
      // A chat template writes the special tokens itself.
      ...(prompts === 'text' && said[0]?.user !== undefined && { add_special_tokens: false }),
    };
    return this.#client.stream('/completions', body, begin, signal);
  }

  async #findModel(signal: AbortSignal | undefined): Promise<string> {
    if (this.#options.model !== undefined) return this.#options.model;
    const parsed = modelsSchema.safeParse(await this.#client.get('/models', signal));
    const ids = parsed.success ? parsed.data.data.map(({ id }) => id) : [];
    const [only] = ids;
    if (only !== undefined && ids.length === 1) return only;
    const found = ids.length === 0 ? 'no models' : `several models: ${ids.join(', ')}`;
    throw configError(
      `The server at ${this.#options.url} lists ${found}. Name the one to evaluate.`,
    );
  }

  #compareCounts({ prompt }: Job, { promptTokens }: Answer): void {
    const own = prompt.turns.reduce((sum, { ids }) => sum + ids.length, 0);
    if (this.#warned || this.#options.api === 'chat' || own === promptTokens) return;
    this.#warned = true;
    this.#options.onWarning?.(
      `The server counts ${promptTokens} tokens in a prompt of ${own}. One more may be a second beginning-of-text token; more than that is another tokenizer than this run's, or a chat template that differs.`,
    );
  }

  [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve();
  }
}

/** What a server cannot be asked for. */
function checkJob({ id, prompt }: Job, { prompts, api }: EndpointOptions): void {
  if (prompt.target !== undefined) {
    throw configError(
      `${id}: the likelihood of a given text cannot be asked of every server, so NLL needs --model-path instead of --endpoint.`,
    );
  }
  if (prompt.turns.some(({ answer }) => answer === 0)) {
    throw configError(
      `${id}: a server cannot be told to compress the context before the question. Leave the mode query-agnostic out with --endpoint.`,
    );
  }
  if (prompts === 'ids' && (prompt.turns.length > 1 || api === 'chat')) {
    throw configError(
      `${id}: token ids can be sent for one turn through completions only. Send text, or leave the mode second-turn out.`,
    );
  }
}

function joinTurns(answers: readonly TurnAnswer[]): Answer {
  const sum = (value: (answer: TurnAnswer) => number): number =>
    answers.reduce((total, answer) => total + value(answer), 0);
  const last = answers.at(-1);
  const newTokens = sum((answer) => answer.newTokens);
  return {
    prediction: last?.text ?? '',
    // The last prompt has all earlier answers in it.
    promptTokens: (last?.promptTokens ?? 0) - (newTokens - (last?.newTokens ?? 0)),
    newTokens,
    finish: last?.finish ?? 'length',
    prefillSeconds: sum((answer) => answer.firstSeconds),
    decodeTokens: sum((answer) => Math.max(0, answer.newTokens - 1)),
    decodeSeconds: sum((answer) => answer.restSeconds),
  };
}
