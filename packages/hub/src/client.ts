import { AccelError } from '@accel/kernels';
import type { z } from 'zod';
import { refusal } from './refusal.js';
import { Transient, retrying, type RetryPolicy } from './retry.js';

/** What a {@link HubClient} needs to know. */
export interface ClientOptions {
  /** Address of the Hub, without a slash at the end. */
  readonly endpoint: string;
  readonly token: string | undefined;
  /** Stops everything. */
  readonly signal: AbortSignal;
  /** Give up on a try when nothing was received for this long, in ms. */
  readonly stallMs: number;
  readonly retry: RetryPolicy;
}

/** An answer whose body is still to be read. */
export interface OpenResponse extends Disposable {
  readonly status: number;
  readonly headers: Headers;
  /** Reads the body piece by piece. A cut connection and a long silence are {@link Transient}. */
  chunks(): AsyncIterable<Uint8Array>;
}

/** HTTP as the Hub needs it: the token goes to the Hub alone, silence ends a try, refusals become clear errors. */
export class HubClient {
  readonly options: ClientOptions;

  constructor(options: ClientOptions) {
    this.options = options;
  }

  /**
   * Reads a JSON page of the Hub's API, trying again where that helps.
   * @returns the checked page, and the address of the next one if there is one
   */
  async json<T>(
    url: string,
    repo: string,
    schema: z.ZodType<T>,
  ): Promise<{ page: T; next: string | undefined }> {
    return retrying(
      async () => {
        using response = await this.open(url, repo);
        const parts: Uint8Array[] = [];
        for await (const chunk of response.chunks()) parts.push(chunk);
        const parsed = schema.safeParse(parseJson(Buffer.concat(parts).toString('utf8')));
        if (parsed.success) return { page: parsed.data, next: nextPage(response.headers, url) };
        throw new AccelError(
          'ERR_ACCEL_HUB',
          `${url} answered something that is not the Hub's API. Check the endpoint (HF_ENDPOINT).`,
          { cause: parsed.error },
        );
      },
      this.options.retry,
      this.options.signal,
    );
  }

  /**
   * Sends one GET request and follows redirections.
   * @throws AccelError when the Hub refuses; Transient when it may succeed at the next try
   */
  async open(
    url: string,
    repo: string,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<OpenResponse> {
    const { endpoint, token, signal, stallMs } = this.options;
    const stall = new AbortController();
    const timer = setTimeout(() => stall.abort(), stallMs);
    const failed = (error: unknown): Error => {
      clearTimeout(timer);
      if (signal.aborted) return error as Error;
      return unreachable(url, error, stall.signal.aborted ? stallMs : undefined);
    };
    let response: Response;
    try {
      response = await fetch(url, {
        headers: {
          'user-agent': '@accel/hub',
          // Sizes, ranges and hashes are those of the file, not of a compressed form of it.
          'accept-encoding': 'identity',
          // fetch drops this header when a redirection leads to another origin, as that of a large file does.
          ...(token !== undefined &&
            sameOrigin(url, endpoint) && { authorization: `Bearer ${token}` }),
          ...headers,
        },
        signal: AbortSignal.any([signal, stall.signal]),
      });
    } catch (error) {
      throw failed(error);
    }
    timer.refresh();
    // 416 is an answer about the range that was asked for; the caller knows what to do.
    if (!response.ok && response.status !== 416) {
      clearTimeout(timer);
      await response.body?.cancel();
      throw refusal(response, { repo, endpoint, token });
    }
    return {
      status: response.status,
      headers: response.headers,
      async *chunks() {
        if (response.body === null) return;
        try {
          for await (const chunk of response.body) {
            timer.refresh();
            yield chunk;
          }
        } catch (error) {
          throw failed(error);
        }
      },
      [Symbol.dispose]() {
        clearTimeout(timer);
        stall.abort();
      },
    };
  }
}

/** Same scheme, host and port as the Hub; a list's next page could name any address. */
function sameOrigin(url: string, endpoint: string): boolean {
  return new URL(url).origin === new URL(endpoint).origin;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** `Link: <https://…?cursor=…>; rel="next"` */
function nextPage(headers: Headers, url: string): string | undefined {
  const next = /<([^>]+)>;\s*rel="?next"?/.exec(headers.get('link') ?? '')?.[1];
  return next === undefined ? undefined : new URL(next, url).href;
}

/** No such host, and certificates that are not trusted, stay as they are for the next seconds. */
const LASTING = /^(ENOTFOUND|CERT_|ERR_TLS|ERR_SSL|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO)/;

function unreachable(url: string, error: unknown, silentMs: number | undefined): Error {
  const { origin } = new URL(url);
  const cause = (error as { cause?: NodeJS.ErrnoException }).cause;
  const why =
    silentMs === undefined
      ? (cause?.message ?? (error as Error).message)
      : `nothing was received for ${silentMs / 1000} s`;
  const failure = new AccelError(
    'ERR_ACCEL_HUB',
    `Cannot download from ${origin}: ${why || 'the connection failed'}. Check the network and HF_ENDPOINT, then pull again: what was received is kept.`,
    { cause: error },
  );
  return LASTING.test(cause?.code ?? '') ? failure : new Transient(failure);
}
