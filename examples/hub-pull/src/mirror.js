// The part of the Hugging Face Hub's API that a download needs: a revision, a list of files, and files with ranges.
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';

const COMMIT = 'c0ffee'.padEnd(40, '0');

/**
 * Serves a folder as one repository.
 * @param {string} folder
 * @param {{ cutAfter: number }} fault bytes after which the first answer that is longer ends
 */
export async function startMirror(folder, fault) {
  const files = readdirSync(folder).map((path) => {
    const bytes = readFileSync(join(folder, path));
    // Git's hash of a file, by which small files are checked.
    const oid = createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');
    return { path, bytes, oid };
  });
  /** @type {string[]} */
  const ranges = [];
  let cut = false;
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? '/', 'http://localhost');
    /** @param {unknown} value */
    const json = (value) =>
      response.setHeader('content-type', 'application/json').end(JSON.stringify(value));
    if (pathname.includes('/revision/')) return json({ sha: COMMIT });
    if (pathname.includes('/tree/')) {
      return json(
        files.map(({ path, bytes, oid }) => ({ type: 'file', path, size: bytes.length, oid })),
      );
    }
    const file = files.find(({ path }) => pathname.endsWith(`/${path}`));
    if (file === undefined) return response.writeHead(404).end();
    const { range } = request.headers;
    if (range !== undefined) ranges.push(`${file.path} ${range}`);
    const from = Number(/^bytes=(\d+)-/.exec(range ?? '')?.[1] ?? 0);
    const total = file.bytes.length;
    response.writeHead(range === undefined ? 200 : 206, {
      'content-length': total - from,
      etag: `"${file.oid}"`,
      'x-repo-commit': COMMIT,
      ...(range !== undefined && { 'content-range': `bytes ${from}-${total - 1}/${total}` }),
    });
    if (cut || total <= fault.cutAfter) return response.end(file.bytes.subarray(from));
    cut = true;
    response.write(file.bytes.subarray(from, fault.cutAfter), () => response.destroy());
  });
  await new Promise((ready) => server.listen(0, '127.0.0.1', () => ready(undefined)));
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address());
  return { url: `http://127.0.0.1:${port}`, ranges, close: () => server.close() };
}
