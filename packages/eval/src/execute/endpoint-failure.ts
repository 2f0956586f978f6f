import { messageOf } from '../errors.js';

/** Of an error page, what is enough to recognise it. */
export const SHOWN: number = 300;

/** A request failed. */
export class RequestFailed extends Error {
  override readonly name = 'RequestFailed';
  /** Whether it may succeed when it is tried again. */
  readonly passing: boolean;
  /** Whether it says something about this request only, so that others may succeed. */
  readonly own: boolean;
  /** How long the server asks to wait. */
  readonly waitSeconds: number | undefined;

  constructor(
    message: string,
    kind: { passing?: boolean; own?: boolean; waitSeconds?: number | undefined } = {},
  ) {
    super(message);
    this.passing = kind.passing ?? false;
    this.own = kind.own ?? false;
    this.waitSeconds = kind.waitSeconds;
  }
}

/** What a response that is no success says. */
export async function refused(response: Response): Promise<RequestFailed> {
  const { status } = response;
  const text = await response.text().catch(() => '');
  const seconds = Number(response.headers.get('retry-after') ?? Number.NaN);
  return new RequestFailed(`HTTP ${status}: ${describeBody(text)}`, {
    passing: status === 408 || status === 429 || status >= 500,
    // 502 to 504 are of a server that is down or overloaded, whatever it is asked.
    own: [400, 413, 422, 500].includes(status),
    waitSeconds: seconds >= 0 ? seconds : undefined,
  });
}

/** The message of an OpenAI error, or how the page begins. */
function describeBody(text: string): string {
  try {
    const { error, message, detail } = JSON.parse(text) as Record<string, unknown>;
    const found =
      (error as { message?: unknown } | undefined)?.message ?? error ?? message ?? detail;
    if (found !== undefined)
      return (typeof found === 'string' ? found : JSON.stringify(found)).slice(0, SHOWN);
  } catch {
    // Not JSON: shown as it is.
  }
  return text.slice(0, SHOWN);
}

/** What a server sent as JSON. @throws RequestFailed */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new RequestFailed(`it sent malformed JSON: ${text.slice(0, SHOWN)}`, {
      passing: true,
      own: true,
    });
  }
}

/** What fetch throws: connections that are refused, reset or cut. Rethrows anything else. */
export function asFailure(error: unknown): RequestFailed {
  if (error instanceof RequestFailed) return error;
  if (!(error instanceof TypeError)) throw error;
  const cause = error.cause === undefined ? '' : ` (${messageOf(error.cause)})`;
  return new RequestFailed(`${error.message}${cause}`, { passing: true });
}
