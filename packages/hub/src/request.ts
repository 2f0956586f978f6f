import { AccelError } from '@accel/kernels';
import { Transient } from './retry.js';

/** An answer whose body is still to be read. */
export interface OpenResponse extends Disposable {
  readonly status: number;
  readonly headers: Headers;
  /** Reads the body piece by piece. A cut connection and a long silence are {@link Transient}. */
  chunks(): AsyncIterable<Uint8Array>;
}

/** How a request is made, and what its failures say. */
export interface RequestOptions {
  /** Stops everything. */
  readonly signal: AbortSignal;
  /** Give up when nothing was received for this long, in ms. */
  readonly stallMs: number;
  readonly headers: Readonly<Record<string, string>>;
  /** What to do when there is no connection, to go on with ", then pull again". */
  readonly advice: string;
  /** What a status of 400 or above means. */
  readonly refusal: (response: Response) => Error;
}

/**
 * Sends one GET request and follows redirections.
 * @throws the refusal; Transient when it may succeed at the next try, AccelError `ERR_ACCEL_HUB` when it will not
 */
export async function openUrl(url: string, options: RequestOptions): Promise<OpenResponse> {
  const { signal, stallMs, headers, advice, refusal } = options;
  const stall = new AbortController();
  const timer = setTimeout(() => stall.abort(), stallMs);
  const failed = (error: unknown): Error => {
    clearTimeout(timer);
    if (signal.aborted) return error as Error;
    return unreachable(url, error, stall.signal.aborted ? stallMs : undefined, advice);
  };
  let response: Response;
  try {
    response = await fetch(url, {
      headers: {
        'user-agent': '@accel/hub',
        // Sizes, ranges and hashes are those of the file, not of a compressed form of it.
        'accept-encoding': 'identity',
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
    throw refusal(response);
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

/** No such host, and certificates that are not trusted, stay as they are for the next seconds. */
const LASTING = /^(ENOTFOUND|CERT_|ERR_TLS|ERR_SSL|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO)/;

function unreachable(
  url: string,
  error: unknown,
  silentMs: number | undefined,
  advice: string,
): Error {
  const { origin } = new URL(url);
  const cause = (error as { cause?: NodeJS.ErrnoException }).cause;
  const why =
    silentMs === undefined
      ? (cause?.message ?? (error as Error).message)
      : `nothing was received for ${silentMs / 1000} s`;
  const failure = new AccelError(
    'ERR_ACCEL_HUB',
    `Cannot download from ${origin}: ${why || 'the connection failed'}. ${advice}, then pull again: what was received is kept.`,
    { cause: error },
  );
  return LASTING.test(cause?.code ?? '') ? failure : new Transient(failure);
}
