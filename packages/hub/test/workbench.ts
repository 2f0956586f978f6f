import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FakeHub } from '@accel/testkit';
import { pull, type PullOptions, type PullResult } from '../src/index.js';

/** A Hub and an empty cache for one test. */
export class Workbench implements AsyncDisposable {
  readonly hub: FakeHub;
  readonly cacheDir: string;

  private constructor(hub: FakeHub, cacheDir: string) {
    this.hub = hub;
    this.cacheDir = cacheDir;
  }

  static async open(): Promise<Workbench> {
    return new Workbench(await FakeHub.start(), await mkdtemp(join(tmpdir(), 'accel-hub-')));
  }

  /** Pulls from this Hub into this cache, with an empty environment and no patience. */
  async pull(model: string, options: PullOptions = {}): Promise<PullResult> {
    return pull(model, {
      cacheDir: this.cacheDir,
      env: { HOME: this.cacheDir },
      retry: { attempts: 3, delayMs: 1 },
      ...options,
      endpoint: options.endpoint ?? this.hub.url,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.hub.close();
    await rm(this.cacheDir, { recursive: true, force: true });
  }
}

/** Bytes that are the same in every run and do not repeat. */
export function noise(length: number, seed = 1): Uint8Array {
  const bytes = new Uint8Array(length);
  let state = seed;
  for (let index = 0; index < length; index += 1) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[index] = state >>> 24;
  }
  return bytes;
}

/** SHA-256 in hexadecimal digits: what long contents are compared by. */
export function sha256(content: string | Uint8Array = ''): string {
  return createHash('sha256').update(content).digest('hex');
}
