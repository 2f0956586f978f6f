import type { ServerResponse } from 'node:http';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { ModelServer, send, streamed } from '../testing/model-server.js';
import { endpointExecutor, type EndpointOptions } from './endpoint.js';
import type { Executor, Job, Outcome, PromptTurn } from './types.js';

let server: ModelServer;
beforeAll(async () => {
  server = await ModelServer.start();
});
beforeEach(() => server.reset());
afterAll(() => server.end());

const endpoint = (options: Partial<EndpointOptions> = {}): Executor =>
  endpointExecutor({ url: server.url, retries: 0, ...options });

const ids = Int32Array.of(1, 2, 3);

function job(turn: Partial<PromptTurn> = {}, ...more: PromptTurn[]): Job {
  const turns = [{ text: 'What?', ids, answer: 8, ...turn }, ...more];
  return { id: 'task/0', method: 'full', prompt: { turns, stopIds: [9], stop: [] } };
}

const secondTurn: PromptTurn = { text: '<end>And?<a>', user: 'And?', ids, answer: 4 };

async function failure(executor: Executor): Promise<string> {
  const [outcome] = await executor.run([job()]);
  return outcome !== undefined && 'failure' in outcome ? outcome.failure.message : 'none';
}

describe('completions', () => {
  test('a raw prompt goes out as it is, greedily, and the stream is timed', async () => {
    const onPrefilled = vi.fn();
    const executor = endpoint({ apiKey: 'key' });
    const [outcome] = await executor.run([job()], { onPrefilled });
    expect(server.requests).toEqual([
      {
        path: '/v1/completions',
        authorization: 'Bearer key',
        body: {
          model: 'tiny',
          prompt: 'What?',
          max_tokens: 8,
          temperature: 0,
          stream: true,
          stream_options: { include_usage: true },
        },
      },
    ]);
    const answer = answerOf(outcome);
    expect(answer).toMatchObject({
      prediction: 'yes, 1',
      promptTokens: 3,
      newTokens: 3,
      finish: 'eos',
      decodeTokens: 2,
    });
    // The server sleeps 20 ms between its chunks; this process may be late to read the first.
    expect(answer.decodeSeconds).toBeGreaterThan(0);
    expect(answer.prefillSeconds + answer.decodeSeconds).toBeGreaterThan(0.015);
    expect(onPrefilled).toHaveBeenCalledExactlyOnceWith('task/0', answer.prefillSeconds);
  });

  test('a rendered chat asks for no special tokens of the tokenizer; stop texts are sent', async () => {
    const chat = job({ text: '<s><user>What?<a>It', user: 'What?', answerPrefix: 'It' });
    await endpoint({ model: 'other' }).run([{ ...chat, prompt: { ...chat.prompt, stop: ['\n'] } }]);
    expect(server.requests[0]?.body).toMatchObject({
      model: 'other',
      prompt: '<s><user>What?<a>It',
      add_special_tokens: false,
      stop: ['\n'],
    });
  });

  test('a second turn follows the first answer', async () => {
    const [outcome] = await endpoint().run([
      job({ text: '<u>What?<a>', user: 'What?' }, secondTurn),
    ]);
    expect(server.requests[1]?.body).toMatchObject({
      prompt: '<u>What?<a>yes, 1<end>And?<a>',
      max_tokens: 4,
    });
    // The second prompt, of 13 tokens, holds the first answer of 3.
    expect(answerOf(outcome)).toMatchObject({
      prediction: 'yes, 2',
      promptTokens: 10,
      newTokens: 6,
      decodeTokens: 4,
    });
  });

  test('token ids, when asked for', async () => {
    await endpoint({ prompts: 'ids' }).run([job({ user: 'What?' })]);
    expect(server.requests[0]?.body.prompt).toEqual([1, 2, 3]);
    expect(server.requests[0]?.body).not.toHaveProperty('add_special_tokens');
  });

  test('warns once when the server counts other tokens', async () => {
    const onWarning = vi.fn();
    const executor = endpoint({ onWarning });
    await executor.run([job()]);
    expect(onWarning).not.toHaveBeenCalled();
    await executor.run([job({ ids: Int32Array.of(1, 2) })]);
    await executor.run([job({ ids: Int32Array.of(1) })]);
    expect(onWarning).toHaveBeenCalledExactlyOnceWith(expect.stringMatching(/counts 13 .* of 2\./));
  });

  test('why an answer ended', async () => {
    const finishes: string[] = [];
    for (const end of [{ finish_reason: 'length' }, { finish_reason: 'stop', stop_reason: '\n' }]) {
      server.behaviour = (response) => finished(response, end);
      finishes.push(answerOf((await endpoint().run([job()]))[0]).finish);
    }
    expect(finishes).toEqual(['length', 'stop']);
  });
});

describe('chat', () => {
  test('sends what the user says, with the answer prefix at its end, and earlier answers', async () => {
    const first = { text: '<u>What?<a>It', user: 'What?', answerPrefix: ' It' };
    const [outcome] = await endpoint({ api: 'chat' }).run([job(first, secondTurn)]);
    expect(server.requests.map(({ path }) => path)).toEqual(Array(2).fill('/v1/chat/completions'));
    expect(server.requests[1]?.body.messages).toEqual([
      { role: 'user', content: 'What? It' },
      { role: 'assistant', content: 'yes, 1' },
      { role: 'user', content: 'And?' },
    ]);
    expect(answerOf(outcome).prediction).toBe('yes, 2');
  });
});

describe('what a server cannot do', () => {
  test.each([
    [
      'likelihoods',
      { ...job(), prompt: { ...job().prompt, target: ids } },
      {},
      /NLL needs --model-path/,
    ],
    ['query-agnostic', job({ answer: 0 }, secondTurn), {}, /query-agnostic/],
    ['ids of two turns', job({}, secondTurn), { prompts: 'ids' as const }, /one turn/],
  ])('%s', async (_name, asked, options, message) => {
    await expect(endpoint(options).run([asked])).rejects.toMatchObject({
      code: 'ERR_ACCEL_CONFIG',
      message: expect.stringMatching(message) as string,
    });
    expect(server.requests).toEqual([]);
  });

  test('several models need a name', async () => {
    server.models = ['a', 'b'];
    await expect(endpoint().run([job()])).rejects.toThrow(/several models: a, b/);
  });

  test('options out of range', () => {
    expect(() => endpoint({ url: 'localhost:8000' })).toThrow(/looks like http/);
    expect(() => endpoint({ concurrency: 0 })).toThrow(/concurrency is 0/);
    expect(() => endpoint({ timeoutSeconds: 900 })).toThrow(/at most 300/);
  });
});

describe('failures', () => {
  test('429, 503 and a cut connection are tried again', async () => {
    server.behaviour = (response, _received, nth) => {
      if (nth === 1) return response.destroy().destroyed;
      if (nth === 2) return refuse(response, 429, { error: { message: 'slow down' } });
      if (nth === 3) return refuse(response, 503, 'starting');
      return false;
    };
    const [outcome] = await endpoint({ retries: 3 }).run([job()]);
    expect(answerOf(outcome).prediction).toBe('yes, 4');
  });

  test('a broken stream is tried again from the start, and nothing of it is kept', async () => {
    server.behaviour = (response, _received, nth) => {
      if (nth > 1) return false;
      streamed(response);
      send(response, { choices: [{ text: 'half' }] });
      response.end();
      return true;
    };
    const [outcome] = await endpoint({ retries: 1 }).run([job()]);
    expect(answerOf(outcome).prediction).toBe('yes, 2');
  });

  test.each<[string, (response: ServerResponse) => boolean, RegExp]>([
    [
      'a prompt too long',
      (r) => refuse(r, 400, { error: { message: 'too long' } }),
      /HTTP 400: too long/,
    ],
    ['an error inside', (r) => refuse(r, 500, { detail: 'oops' }), /HTTP 500: oops/],
    ['malformed JSON', (r) => events(r, '{"choices": ['), /malformed JSON: \{"choices": \[/],
    [
      'an error in the stream',
      (r) => events(r, { error: { message: 'boom' } }),
      /answered: .*boom/,
    ],
    ['no end', (r) => events(r, { choices: [{ text: 'a' }] }, '[DONE]'), /no finish_reason/],
  ])('%s is the failure of one job', async (_name, behaviour, message) => {
    server.behaviour = (response) => behaviour(response);
    expect(await failure(endpoint({ timeoutSeconds: 0.1 }))).toMatch(message);
  });

  test.each<[string, (response: ServerResponse) => boolean, RegExp]>([
    ['a wrong key', (r) => refuse(r, 401, { error: { message: 'bad key' } }), /HTTP 401: bad key/],
    ['a wrong path', (r) => refuse(r, 404, '<html>'), /HTTP 404: <html>/],
    ['too many requests for ever', (r) => refuse(r, 429, 'no'), /HTTP 429/],
    ['a server that is down', (r) => refuse(r, 503, 'down'), /HTTP 503: down/],
    ['no stream', (r) => refuse(r, 200, { choices: [] }), /does not stream/],
    ['no counts', (r) => finished(r, { finish_reason: 'stop' }, false), /does not count tokens/],
    ['chunks of another kind', (r) => events(r, { choices: 'x' }), /chunks are not OpenAI's/],
  ])('%s ends the run', async (_name, behaviour, message) => {
    server.behaviour = (response) => behaviour(response);
    const run = endpoint({ apiKey: 'secret' }).run([job()]);
    await expect(run).rejects.toMatchObject({
      code: 'ERR_ACCEL_ENDPOINT',
      message: expect.stringMatching(message) as string,
    });
    await expect(run).rejects.not.toThrow(/secret/);
  });

  test('a server that is not there ends the run', async () => {
    const gone = await ModelServer.start();
    const nowhere = endpoint({ url: gone.url });
    await gone.end();
    await expect(nowhere.run([job()])).rejects.toMatchObject({
      code: 'ERR_ACCEL_ENDPOINT',
      message: expect.stringMatching(/ECONNREFUSED/) as string,
    });
  });

  test('a stalled server is given up, an abort is obeyed at once', async () => {
    server.behaviour = (response) => {
      streamed(response);
      send(response, { choices: [{ text: 'a' }] });
      return true;
    };
    expect(await failure(endpoint({ timeoutSeconds: 0.1 }))).toMatch(/said nothing for 0.1 s/);
    const abort = new AbortController();
    const run = endpoint().run([job()], { signal: abort.signal });
    await vi.waitFor(() => expect(server.requests).toHaveLength(2));
    abort.abort();
    await expect(run).rejects.toMatchObject({ code: 'ERR_ACCEL_ABORTED' });
  });
});

function refuse(response: ServerResponse, status: number, body: unknown): boolean {
  response.writeHead(status, { 'content-type': 'application/json', 'retry-after': '0' });
  response.end(typeof body === 'string' ? body : JSON.stringify(body));
  return true;
}

function events(response: ServerResponse, ...all: unknown[]): boolean {
  streamed(response);
  for (const event of all) send(response, event);
  response.end();
  return true;
}

function finished(response: ServerResponse, end: object, counts = true): boolean {
  const usage = { prompt_tokens: 3, completion_tokens: 1 };
  return events(response, { choices: [{ text: 'a', ...end }], ...(counts && { usage }) }, '[DONE]');
}

function answerOf(outcome: Outcome | undefined): Extract<Outcome, { answer: unknown }>['answer'] {
  if (outcome === undefined || !('answer' in outcome)) throw new Error(JSON.stringify(outcome));
  return outcome.answer;
}
