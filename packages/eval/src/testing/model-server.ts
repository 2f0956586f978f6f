import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';

/** A request as it arrived. */
export interface Received {
  readonly path: string;
  readonly authorization: string | undefined;
  readonly body: Record<string, unknown>;
}

/** What the server does with a request; `undefined` is the ordinary answer. */
export type Behaviour = (
  response: ServerResponse,
  received: Received,
  nth: number,
) => boolean | Promise<boolean>;

/**
 * An OpenAI-compatible server: its nth answer is `yes, <n>`, two chunks and three tokens, in the form that vLLM streams, and
 * prompts have 3, 13, 23, … tokens. A behaviour may answer instead.
 */
export class ModelServer {
  readonly requests: Received[] = [];
  models: string[] = ['tiny'];
  behaviour: Behaviour | undefined;
  readonly #server: Server;

  private constructor() {
    this.#server = createServer((request, response) => void this.#answer(request, response));
  }

  static async start(): Promise<ModelServer> {
    const server = new ModelServer();
    server.#server.listen(0, '127.0.0.1');
    await once(server.#server, 'listening');
    return server;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/v1`;
  }

  reset(): void {
    this.requests.length = 0;
    this.models = ['tiny'];
    this.behaviour = undefined;
  }

  async end(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url ?? '';
    if (path === '/v1/models') {
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify({ data: this.models.map((id) => ({ id, object: 'model' })) }));
      return;
    }
    const body = JSON.parse(await text(request)) as Record<string, unknown>;
    const received = { path, authorization: request.headers.authorization, body };
    this.requests.push(received);
    const nth = this.requests.length;
    if ((await this.behaviour?.(response, received, nth)) === true) return;
    const chat = path === '/v1/chat/completions';
    const chunk = (content: string, finish: string | null): unknown => ({
      choices: [
        chat
          ? { index: 0, delta: { content }, finish_reason: finish }
          : { index: 0, text: content, finish_reason: finish, stop_reason: null },
      ],
    });
    streamed(response);
    if (chat)
      send(response, { choices: [{ index: 0, delta: { role: 'assistant', content: '' } }] });
    send(response, chunk('yes,', null));
    await new Promise((resolve) => setTimeout(resolve, 20));
    send(response, chunk(` ${nth}`, 'stop'));
    send(response, { choices: [], usage: { prompt_tokens: 10 * nth - 7, completion_tokens: 3 } });
    response.end('data: [DONE]\n\n');
  }
}

/** Begins a stream of events. */
export function streamed(response: ServerResponse): void {
  response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' });
}

/** Sends one event. */
export function send(response: ServerResponse, event: unknown): void {
  response.write(`data: ${typeof event === 'string' ? event : JSON.stringify(event)}\n\n`);
}
