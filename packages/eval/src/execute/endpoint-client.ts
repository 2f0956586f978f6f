import { setTimeout } from 'node:timers/promises';
import { AccelError } from '@accel/core';
import { EventSourceParserStream } from 'eventsource-parser/stream';
import { asFailure, parseJson, refused, RequestFailed, SHOWN } from './endpoint-failure.js';

/** How a server is spoken to. */
export interface ClientOptions {
  /** With the version, `http://localhost:8000/v1`. */
  readonly url: string;
  readonly apiKey?: string | undefined;
  /** Longest silence of the server. */
  readonly timeoutSeconds: number;
  /** How often a request is tried again. */
  readonly retries: number;
}

const FIRST_WAIT_SECONDS = 0.5;
const LONGEST_WAIT_SECONDS = 30;
/** Talks to an OpenAI-compatible server, again and again where that may help. */
export class EndpointClient {
  readonly #options: ClientOptions;
  readonly #base: string;

  constructor(options: ClientOptions) {
    this.#options = options;
    this.#base = options.url.replace(/\/+$/, '');
  }

  /** @throws RequestFailed, AccelError ERR_ACCEL_ABORTED */
  async get(path: string, signal?: AbortSignal): Promise<unknown> {
    return await this.#retrying(signal, async (silence) => {
      const response = await this.#fetch(path, { signal: silence.signal });
      return parseJson(await response.text());
    });
  }

  /**
   * Sends a request whose answer is a stream of events, and reads it to its end.
   *
   * @param onEvent called with the JSON of each event; an attempt that is given up has called it in vain, so it is made for
   * each attempt
   * @throws RequestFailed, AccelError ERR_ACCEL_ABORTED, and what `onEvent` throws
   */
  async stream<T>(
    path: string,
    body: unknown,
    begin: () => { onEvent(event: unknown): void; end(): T },
    signal?: AbortSignal,
  ): Promise<T> {
    return await this.#retrying(signal, async (silence) => {
      const reader = begin();
      const response = await this.#fetch(path, {
        method: 'POST',
        body: JSON.stringify(body),
        signal: silence.signal,
      });
      const type = response.headers.get('content-type') ?? '';
      if (response.body === null || !type.includes('text/event-stream')) {
        const text = (await response.text()).slice(0, SHOWN);
        throw new RequestFailed(`it does not stream but answers ${type}: ${text}`);
      }
      const events = response.body
        .pipeThrough(new TextDecoderStream())
        .pipeThrough(new EventSourceParserStream());
      for await (const { data } of events) {
        silence.heard();
        if (data === '[DONE]') return reader.end();
        reader.onEvent(parseJson(data));
      }
      throw new RequestFailed('it broke off in the middle of an answer', {
        passing: true,
        own: true,
      });
    });
  }

  async #fetch(path: string, init: RequestInit): Promise<Response> {
    const { apiKey } = this.#options;
    const response = await fetch(`${this.#base}${path}`, {
      ...init,
      headers: {
        'content-type': 'application/json',
        ...(apiKey !== undefined && { authorization: `Bearer ${apiKey}` }),
      },
    });
    if (response.ok) return response;
    throw await refused(response);
  }

  async #retrying<T>(
    signal: AbortSignal | undefined,
    attempt: (silence: Silence) => Promise<T>,
  ): Promise<T> {
    for (let tried = 0; ; tried++) {
      const silence = new Silence(this.#options.timeoutSeconds, signal);
      try {
        return await attempt(silence);
      } catch (error) {
        if (signal?.aborted === true) throw aborted(signal);
        const failed = silence.failure ?? asFailure(error);
        if (!failed.passing || tried >= this.#options.retries) throw failed;
        await pause(failed.waitSeconds ?? FIRST_WAIT_SECONDS * 2 ** tried, signal);
      } finally {
        silence.end();
      }
    }
  }
}

/** Gives a request up when nothing is heard for too long. */
class Silence {
  readonly #controller = new AbortController();
  readonly #timer: NodeJS.Timeout;
  readonly signal: AbortSignal;
  failure: RequestFailed | undefined;

  constructor(seconds: number, signal: AbortSignal | undefined) {
    this.#timer = globalThis.setTimeout(() => {
      this.failure = new RequestFailed(`it said nothing for ${seconds} s`, {
        passing: true,
        own: true,
      });
      this.#controller.abort();
    }, seconds * 1000);
    this.signal =
      signal === undefined
        ? this.#controller.signal
        : AbortSignal.any([signal, this.#controller.signal]);
  }

  heard(): void {
    this.#timer.refresh();
  }

  end(): void {
    clearTimeout(this.#timer);
  }
}

async function pause(seconds: number, signal: AbortSignal | undefined): Promise<void> {
  // Jitter, so that requests that failed together do not come back together.
  const wait = Math.min(seconds, LONGEST_WAIT_SECONDS) * (1 + Math.random() / 4);
  try {
    await setTimeout(wait * 1000, undefined, signal === undefined ? {} : { signal });
  } catch (error) {
    throw signal === undefined ? error : aborted(signal);
  }
}

function aborted(signal: AbortSignal): AccelError {
  return new AccelError('ERR_ACCEL_ABORTED', 'The request to the server was stopped.', {
    cause: signal.reason,
  });
}
