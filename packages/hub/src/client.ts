import { AccelError } from '@accel/kernels';
import type { z } from 'zod';
import { refusal } from './refusal.js';
import { openUrl, type OpenResponse } from './request.js';
import { retrying, type RetryPolicy } from './retry.js';

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
    return openUrl(url, {
      signal,
      stallMs,
      headers: {
        // fetch drops this header when a redirection leads to another origin, as that of a large file does.
        ...(token !== undefined &&
          sameOrigin(url, endpoint) && { authorization: `Bearer ${token}` }),
        ...headers,
      },
      advice: 'Check the network and HF_ENDPOINT',
      refusal: (response) => refusal(response, { repo, endpoint, token }),
    });
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
