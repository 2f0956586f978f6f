/** Where a command reads and writes. A test passes its own; the program passes the process's streams. */
export interface Io {
  /** Standard input, read as UTF-8 when a prompt is piped in. */
  readonly stdin: Input;
  /** Results only, so that it can be piped. */
  readonly stdout: Output;
  /** Progress, notes and errors. */
  readonly stderr: Output;
  /** Environment variables (`NO_COLOR`, `FORCE_COLOR`, `CI`, `TERM` decide about colour). */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Aborted by Ctrl-C. */
  readonly signal: AbortSignal;
}

/** The part of a readable stream the commands use. */
export interface Input extends AsyncIterable<unknown> {
  readonly isTTY?: boolean | undefined;
}

/** The part of a writable stream the commands use. */
export interface Output {
  write(text: string): unknown;
  /** True when it is a terminal, so lines can be redrawn. */
  readonly isTTY?: boolean | undefined;
  /** Width of the terminal in characters. */
  readonly columns?: number | undefined;
}

/**
 * Reads a stream to its end as UTF-8 text.
 *
 * @throws what the stream throws
 */
export async function readAll(input: Input): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of input) {
    chunks.push(typeof chunk === 'string' ? Buffer.from(chunk) : Buffer.from(chunk as Uint8Array));
  }
  return Buffer.concat(chunks).toString('utf8');
}
