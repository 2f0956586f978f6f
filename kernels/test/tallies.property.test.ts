import fc from 'fast-check';
import { expect, test } from 'vitest';
import { AccelError } from '../ts/index.js';
import { describeDevices } from './support/devices.js';
import { makeBench, type Bench } from './support/kv-model.js';
import { TallyMirror } from './support/tally-model.js';

/** One random step; numbers are taken modulo what is possible at that moment. */
const step = fc.record({
  what: fc.constantFrom(
    'append',
    'append',
    'evict',
    'decode',
    'decode',
    'mark',
    'mark',
    'compact',
    'drop',
    'truncate',
    'fork',
    'own',
    'dispose',
  ),
  who: fc.nat(),
  layer: fc.nat(1),
  a: fc.nat(1000),
  b: fc.nat(1000),
  keep: fc.infiniteStream(fc.nat(1000)),
});

type Step = typeof step extends fc.Arbitrary<infer S> ? S : never;

/** 4 rows or 10 records a page. */
const geometry = {
  layers: 2,
  heads: 3,
  headDim: 8,
  dtype: 'float32',
  pageBytes: 128,
  tallies: 2,
} as const;

class World {
  readonly bench: Bench;
  mirrors: TallyMirror[];
  checks: (() => Promise<void>)[] = [];
  #token = 0;

  constructor(device: string) {
    this.bench = makeBench(geometry, 8192, device);
    this.mirrors = [new TallyMirror(this.bench)];
  }

  apply({ what, who, layer, a, b, keep }: Step): void {
    const mirror = this.mirrors[who % this.mirrors.length];
    if (mirror === undefined) return;
    const rows = mirror.count(layer);
    const next = (): number => Number(keep.next().value);
    const evict = (newest: number): void => {
      const victims = mirror.layer(layer).map(() => next() % (mirror.count(layer) - newest));
      mirror.evict(layer, victims, newest);
    };
    switch (what) {
      case 'append':
        mirror.append(layer, this.#tokens(a % 40));
        break;
      case 'evict':
        if (rows > 0) evict(a % rows);
        break;
      case 'decode': {
        // With a window of the newest rows, as H2O does: the gap stays in front of it.
        const newest = Math.min(rows, 3);
        for (let i = 0; i < 12; i++) {
          mirror.append(layer, this.#tokens(1));
          mirror.mark(layer, 0, (head) => head + 1, true);
          evict(newest);
        }
        break;
      }
      case 'mark':
        mirror.mark(layer, a % 2, (head, row) => (b + 7 * head + 3 * row) % 50, b % 2 === 0);
        break;
      case 'compact': {
        const count = a % (rows + 1);
        mirror.compact(
          layer,
          mirror.layer(layer).map(() => {
            const order = Array.from({ length: rows }, (_, row) => ({ row, at: next() }));
            const chosen = order.sort((x, y) => x.at - y.at).slice(0, count);
            return chosen.map(({ row }) => row).sort((x, y) => x - y);
          }),
        );
        break;
      }
      case 'drop':
        try {
          mirror.drop(layer, a % (rows + 1), b % (rows - (a % (rows + 1)) + 1));
        } catch (error) {
          if (!AccelError.isInstance(error) || error.code !== 'ERR_ACCEL_KV_GAP') throw error;
        }
        break;
      case 'truncate':
        mirror.truncate(layer, a % (rows + 1));
        break;
      case 'fork':
        if (this.mirrors.length < 4) this.mirrors.push(mirror.fork());
        break;
      case 'own':
        mirror.kv.own(layer);
        break;
      case 'dispose':
        if (this.mirrors.length > 1) {
          mirror.kv.dispose();
          this.mirrors = this.mirrors.filter((other) => other !== mirror);
        }
        break;
    }
    let measured = 0;
    for (const each of this.mirrors) {
      const bytes = each.kv.bytes();
      measured = Math.max(measured, bytes.measured);
      expect(bytes.arithmetic).toBe(each.arithmetic());
      expect(bytes.measured).toBeGreaterThanOrEqual(bytes.arithmetic);
    }
    expect(this.bench.pool.usedBytes).toBeGreaterThanOrEqual(measured);
    if (this.mirrors.length === 1) expect(this.bench.pool.usedBytes).toBe(measured);
    if (b % 3 === 0) for (const each of this.mirrors) this.checks.push(each.check());
  }

  #tokens(count: number): number[] {
    return Array.from({ length: count }, () => this.#token++);
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

describeDevices('a cache with tallies', (device) => {
  test('any sequence of operations leaves the rows, and the tallies, that plain lists would have', async () => {
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
