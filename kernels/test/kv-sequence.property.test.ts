import fc from 'fast-check';
import { expect, test } from 'vitest';
import { AccelError } from '../ts/index.js';
import { describeDevices } from './support/devices.js';
import { makeBench, Mirror, type Bench } from './support/kv-model.js';

/** One random step; numbers are taken modulo what is possible at that moment. */
const step = fc.record({
  what: fc.constantFrom(
    'append',
    'append',
    'decode',
    'compact',
    'drop',
    'slide',
    'truncate',
    'fork',
    'dispose',
    'trim',
  ),
  who: fc.nat(),
  layer: fc.nat(1),
  a: fc.nat(1000),
  b: fc.nat(1000),
  keep: fc.infiniteStream(fc.boolean()),
});

type Step = typeof step extends fc.Arbitrary<infer S> ? S : never;

class World {
  readonly bench: Bench;
  mirrors: Mirror[];
  checks: (() => Promise<void>)[] = [];
  #token = 0;

  constructor(device: string) {
    const geometry = { layers: 2, heads: 3, headDim: 8, dtype: 'float32', pageBytes: 128 } as const;
    this.bench = makeBench(geometry, 4096, device);
    this.mirrors = [new Mirror(this.bench)];
  }

  apply({ what, who, layer, a, b, keep }: Step): void {
    const mirror = this.mirrors[who % this.mirrors.length];
    if (mirror === undefined) return;
    const heads = mirror.layer(layer);
    const least = Math.min(...heads.map((rows) => rows.length));
    switch (what) {
      case 'append':
        mirror.append(layer, this.#tokens(a % 40));
        break;
      case 'decode':
        for (let i = 0; i < 3; i++) mirror.append(layer, this.#tokens(1));
        break;
      case 'compact':
        mirror.compact(
          layer,
          heads.map((rows) => rows.flatMap((_, row) => (keep.next().value === true ? [row] : []))),
        );
        break;
      case 'drop':
        this.#drop(mirror, layer, a % (least + 1), b);
        break;
      case 'slide':
        // What StreamingLLM does: append one, drop one behind the sinks.
        for (let i = 0; i < 20; i++) {
          mirror.append(layer, this.#tokens(1));
          if (!this.#drop(mirror, layer, Math.min(2, least), 1)) break;
        }
        break;
      case 'truncate':
        mirror.truncate(layer, a % (least + 1));
        break;
      case 'fork':
        if (this.mirrors.length < 4) this.mirrors.push(mirror.fork());
        break;
      case 'dispose':
        if (this.mirrors.length > 1) {
          mirror.kv.dispose();
          this.mirrors = this.mirrors.filter((other) => other !== mirror);
        }
        break;
      case 'trim':
        this.bench.pool.trim();
        break;
    }
    for (const each of this.mirrors) this.#checkBytes(each);
    if (b % 3 === 0 && this.mirrors.includes(mirror)) this.checks.push(mirror.check());
  }

  /** True when the rows were dropped, false when a gap elsewhere forbade it. */
  #drop(mirror: Mirror, layer: number, at: number, count: number): boolean {
    const least = Math.min(...mirror.layer(layer).map((rows) => rows.length));
    try {
      mirror.drop(layer, at, count % (least - at + 1));
      return true;
    } catch (error) {
      if (AccelError.isInstance(error) && error.code === 'ERR_ACCEL_KV_GAP') return false;
      throw error;
    }
  }

  #tokens(count: number): number[] {
    return Array.from({ length: count }, () => this.#token++);
  }

  #checkBytes(mirror: Mirror): void {
    const { arithmetic, measured, pages } = mirror.kv.bytes();
    expect(arithmetic).toBe(mirror.arithmetic());
    expect(measured).toBe(pages * 128);
    expect(measured).toBeGreaterThanOrEqual(arithmetic);
    // 4 rows or 32 positions a page; a gap may leave half-used pages at its two ends and up to 62 dead positions.
    const bound = mirror.rows
      .flat()
      .reduce(
        (sum, rows) =>
          sum + (rows.length === 0 ? 0 : 2 * (rows.length / 4 + 3) + rows.length / 32 + 4),
        0,
      );
    expect(pages).toBeLessThanOrEqual(bound);
    expect(this.bench.pool.usedBytes).toBeGreaterThanOrEqual(measured);
  }

  async finish(): Promise<void> {
    for (const mirror of this.mirrors) this.checks.push(mirror.check());
    for (const check of this.checks) await check();
    for (const mirror of this.mirrors) mirror.kv.dispose();
    expect(this.bench.pool.usedBytes).toBe(0);
    this.bench.pool.dispose();
    this.bench.stream.dispose();
  }
}

describeDevices('a cache', (device) => {
  test('any sequence of operations leaves the rows that plain lists would have', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 40 }), async (steps) => {
        const world = new World(device);
        for (const each of steps) world.apply(each);
        await world.finish();
      }),
      { numRuns: 150 },
    );
  });
});
