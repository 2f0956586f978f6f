import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A file of a {@link FakeHub}; large-file storage serves it from the other server. */
export interface FakeFile {
  readonly content: string | Uint8Array;
  /** In large-file storage: hashed by SHA-256 and served by a redirection to another origin. Default false. */
  readonly lfs?: boolean;
}

/** A request that reached a {@link FakeHub}. */
export interface FakeRequest {
  /** `cdn` is the other origin that large files are redirected to. */
  readonly server: 'hub' | 'cdn';
  readonly method: string;
  /** Path with query. */
  readonly path: string;
  /** The repository's file that is asked for, if one is. */
  readonly file: string | undefined;
  readonly range: string | undefined;
  readonly authorization: string | undefined;
}

/** What goes wrong with one answer. */
export interface FakeFault {
  /** The connection is cut after so many bytes of the body. */
  readonly cutAfter?: number;
  /** The body stops after so many bytes, and the connection stays open. */
  readonly hangAfter?: number;
  /** The body comes in ten pieces with so many ms between them. */
  readonly slowMs?: number;
  /** A range is not looked at: the whole file is sent, with 200. */
  readonly ignoreRange?: boolean;
  /** Other bytes of the same length are sent. */
  readonly corrupt?: boolean;
  /** Bytes that are sent after the last one. */
  readonly extra?: number;
  /** This status instead of an answer, with these headers and this body. */
  readonly status?: number;
  readonly body?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

interface StoredFile {
  readonly path: string;
  readonly bytes: Buffer;
  readonly oid: string;
  readonly sha256: string | undefined;
}

interface StoredRepo {
  readonly refs: Map<string, string>;
  readonly commits: Map<string, StoredFile[]>;
}

/** Who may read a repository of a {@link FakeHub}: `gated` wants accepted terms, `private` hides it. */
export type FakeAccess = 'public' | 'gated' | 'private';

/**
 * A server that speaks the part of the Hugging Face Hub's API that downloads use: revisions, lists of files in pages,
 * and files with the Hub's headers; those in large-file storage from a second server, as from a CDN.
 */
export class FakeHub implements AsyncDisposable {
  /** Every request so far, in order of arrival. */
  readonly requests: FakeRequest[] = [];
  /** Asked for each request what goes wrong with it. */
  fault: ((request: FakeRequest) => FakeFault | undefined) | undefined;
  /** Files on one page of a list. */
  pageSize = 1000;
  /** Tokens that may read repositories which are not public. */
  readonly tokens: Set<string> = new Set<string>();
  readonly #access = new Map<string, FakeAccess>();
  readonly #repos = new Map<string, StoredRepo>();
  readonly #hub: Server;
  readonly #cdn: Server;

  private constructor() {
    this.#hub = createServer((request, response) => this.#answer('hub', request, response));
    this.#cdn = createServer((request, response) => this.#answer('cdn', request, response));
  }

  /** Starts both servers on free ports of this machine. */
  static async start(): Promise<FakeHub> {
    const hub = new FakeHub();
    // Two names for this machine: clients treat another port of the same host in different ways.
    await Promise.all([listen(hub.#hub, '127.0.0.1'), listen(hub.#cdn, 'localhost')]);
    return hub;
  }

  /** Address of the Hub. */
  get url(): string {
    return `http://127.0.0.1:${portOf(this.#hub)}`;
  }

  /** Adds a commit with these files and lets a branch stand for it. Returns its hash. */
  commit(repo: string, files: Readonly<Record<string, FakeFile>>, branch = 'main'): string {
    const stored = Object.entries(files).map(([path, file]) => store(path, file));
    const hash = createHash('sha1').update(repo);
    for (const { path, oid } of stored) hash.update(`${path} ${oid}\n`);
    const commit = hash.digest('hex');
    const found = this.#repos.get(repo) ?? { refs: new Map(), commits: new Map() };
    found.commits.set(commit, stored);
    found.refs.set(branch, commit);
    this.#repos.set(repo, found);
    return commit;
  }

  /** Says who may read a repository. */
  restrict(repo: string, access: FakeAccess): void {
    this.#access.set(repo, access);
  }

  /** Requests for contents, of one file or of all. */
  downloads(file?: string): FakeRequest[] {
    return this.requests.filter(
      (request) =>
        request.method === 'GET' &&
        request.file !== undefined &&
        !request.path.includes('/resolve/') &&
        (file === undefined || request.file === file),
    );
  }

  async close(): Promise<void> {
    await Promise.all(
      [this.#hub, this.#cdn].map((server) => {
        server.closeAllConnections();
        return new Promise((done) => server.close(done));
      }),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #answer(server: 'hub' | 'cdn', incoming: IncomingMessage, response: ServerResponse): void {
    const url = new URL(incoming.url ?? '/', 'http://localhost');
    const path = decodeURIComponent(url.pathname);
    const request: FakeRequest = {
      server,
      method: incoming.method ?? 'GET',
      path: incoming.url ?? '/',
      file: fileOf(path),
      range: incoming.headers.range,
      authorization: incoming.headers.authorization,
    };
    this.requests.push(request);
    const fault = this.fault?.(request);
    if (fault?.status !== undefined) {
      response.writeHead(fault.status, fault.headers).end(fault.body);
    } else if (server === 'cdn') {
      this.#sendBlob(path, request, response, fault);
    } else {
      this.#answerHub(path, url, request, response, fault);
    }
  }

  #answerHub(
    path: string,
    url: URL,
    request: FakeRequest,
    response: ServerResponse,
    fault: FakeFault | undefined,
  ): ServerResponse {
    const name = /^(?:\/api(?:\/resolve-cache)?(?:\/models)?)?\/((?:datasets\/)?[^/]+\/[^/]+)/.exec(
      path,
    )?.[1];
    const repo = this.#repos.get(name ?? '');
    const listing = /^\/api\/(?:models|datasets)\//.test(path);
    const token = request.authorization?.replace(/^Bearer /, '');
    if (token !== undefined && this.tokens.size > 0 && !this.tokens.has(token)) {
      return refuse(response, 401, undefined, 'Invalid credentials in Authorization header');
    }
    const access = this.#access.get(name ?? '') ?? 'public';
    if (repo === undefined || (access === 'private' && token === undefined)) {
      return refuse(
        response,
        token === undefined ? 401 : 404,
        'RepoNotFound',
        'Repository not found',
      );
    }
    // The list of a gated repository is public, its files are not.
    if (access === 'gated' && token === undefined && !listing) {
      return refuse(response, 401, 'GatedRepo', `Access to model ${name ?? ''} is restricted.`);
    }
    const [, kind, revision = '', file = ''] =
      /\/(revision|tree|resolve|resolve-cache\/(?:models|datasets)\/[^/]+\/[^/]+)\/([^/]+(?:\/pr\/\d+)?)(?:\/(.*))?$/.exec(
        path,
      ) ?? [];
    const commit = repo.refs.get(revision) ?? revision;
    const files = repo.commits.get(commit);
    if (files === undefined) {
      return refuse(response, 404, 'RevisionNotFound', `Invalid rev id: ${revision}`);
    }
    if (kind === 'revision') return json(response, { id: name, sha: commit });
    if (kind === 'tree') return this.#list(files, url, response);
    const found = files.find((stored) => stored.path === file);
    if (found === undefined) return refuse(response, 404, 'EntryNotFound', 'Entry not found');
    const headers: Record<string, string> = { 'x-repo-commit': commit, 'accept-ranges': 'bytes' };
    if (kind !== 'resolve') {
      return send(request, response, found.bytes, { ...headers, etag: `"${found.oid}"` }, fault);
    }
    if (found.sha256 === undefined) {
      headers['etag'] = `"${found.oid}"`;
      headers['location'] =
        `/api/resolve-cache/${name?.startsWith('datasets/') === true ? '' : 'models/'}${name ?? ''}/${commit}/${encodeURIComponent(file)}`;
      return response.writeHead(307, headers).end();
    }
    headers['x-linked-size'] = String(found.bytes.length);
    headers['x-linked-etag'] = `"${found.sha256}"`;
    headers['location'] =
      `http://localhost:${portOf(this.#cdn)}/blob/${found.sha256}/${encodeURIComponent(file)}?signature=1`;
    return response.writeHead(302, headers).end();
  }

  #list(files: readonly StoredFile[], url: URL, response: ServerResponse): ServerResponse {
    const from = Number(url.searchParams.get('cursor') ?? 0);
    const page = files.slice(from, from + this.pageSize).map(({ path, bytes, oid, sha256 }) => ({
      type: 'file',
      path,
      size: bytes.length,
      oid,
      ...(sha256 !== undefined && { lfs: { oid: sha256, size: bytes.length, pointerSize: 134 } }),
    }));
    const folders = [...new Set(files.flatMap(({ path }) => path.split('/').slice(0, -1)))];
    const entries = folders.map((path) => ({
      type: 'directory',
      path,
      size: 0,
      oid: '0'.repeat(40),
    }));
    if (from + this.pageSize < files.length) {
      const next = new URL(url.pathname + url.search, this.url);
      next.searchParams.set('cursor', String(from + this.pageSize));
      response.setHeader('link', `<${next.href}>; rel="next"`);
    }
    return json(response, from === 0 ? [...entries, ...page] : page);
  }

  #sendBlob(
    path: string,
    request: FakeRequest,
    response: ServerResponse,
    fault: FakeFault | undefined,
  ): ServerResponse {
    const sha256 = path.split('/')[2];
    const all = [...this.#repos.values()].flatMap((repo) => [...repo.commits.values()].flat());
    const found = all.find((file) => file.sha256 === sha256);
    if (found === undefined) return response.writeHead(404).end();
    // A storage has ETags of its own.
    return send(
      request,
      response,
      found.bytes,
      { etag: '"d41d8cd98f00b204e9800998ecf8427e-7"' },
      fault,
    );
  }
}

function fileOf(path: string): string | undefined {
  return /\/(?:resolve(?:-cache\/(?:models|datasets)\/[^/]+\/[^/]+)?|blob)\/[^/]+\/(.+)$/.exec(
    path,
  )?.[1];
}

function store(path: string, { content, lfs = false }: FakeFile): StoredFile {
  const bytes = typeof content === 'string' ? Buffer.from(content) : Buffer.from(content);
  const sha256 = lfs ? createHash('sha256').update(bytes).digest('hex') : undefined;
  // Git keeps a small pointer in the place of a large file.
  const inGit =
    sha256 === undefined ? bytes : Buffer.from(`oid sha256:${sha256}\nsize ${bytes.length}\n`);
  const oid = createHash('sha1').update(`blob ${inGit.length}\0`).update(inGit).digest('hex');
  return { path, bytes, oid, sha256 };
}

function send(
  request: FakeRequest,
  response: ServerResponse,
  bytes: Buffer,
  headers: Readonly<Record<string, string>>,
  fault: FakeFault = {},
): ServerResponse {
  const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(request.range ?? '') ?? [];
  const partial = first !== undefined && fault.ignoreRange !== true;
  const from = partial ? Number(first) : 0;
  if (partial && from >= bytes.length) {
    headers = { ...headers, 'content-range': `bytes */${bytes.length}` };
    return response.writeHead(416, headers).end();
  }
  let body = bytes.subarray(from, partial && last !== '' ? Number(last) + 1 : bytes.length);
  if (partial) {
    const range = `bytes ${from}-${from + body.length - 1}/${bytes.length}`;
    headers = { ...headers, 'content-range': range };
  }
  if (fault.corrupt === true) body = Buffer.from(body.map((byte) => byte ^ 0xff));
  if (fault.extra !== undefined) body = Buffer.concat([body, Buffer.alloc(fault.extra)]);
  response.writeHead(partial ? 206 : 200, { ...headers, 'content-length': body.length });
  if (request.method === 'HEAD') return response.end();
  const { cutAfter, hangAfter, slowMs } = fault;
  if (slowMs !== undefined) return drip(response, body, slowMs);
  const end = cutAfter ?? hangAfter;
  if (end === undefined) return response.end(body);
  response.write(body.subarray(0, end), () => {
    if (cutAfter !== undefined) response.destroy();
  });
  return response;
}

function drip(response: ServerResponse, body: Buffer, pauseMs: number): ServerResponse {
  const piece = Math.ceil(body.length / 10);
  let sent = 0;
  const timer = setInterval(() => {
    response.write(body.subarray(sent, (sent += piece)));
    if (sent < body.length) return;
    clearInterval(timer);
    response.end();
  }, pauseMs);
  return response;
}

function json(response: ServerResponse, value: unknown): ServerResponse {
  return response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value));
}

function refuse(
  response: ServerResponse,
  status: number,
  code: string | undefined,
  message: string,
): ServerResponse {
  return response
    .writeHead(status, {
      ...(code !== undefined && { 'x-error-code': code }),
      'x-error-message': message,
      'content-type': 'application/json',
    })
    .end(JSON.stringify({ error: message }));
}

async function listen(server: Server, host: string): Promise<void> {
  await new Promise<void>((done) => server.listen(0, host, done));
}

function portOf(server: Server): number {
  return (server.address() as AddressInfo).port;
}
