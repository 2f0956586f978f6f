import fc from 'fast-check';
import { expect, test } from 'vitest';
import { AccelError, type KvEncodeRules } from '../ts/index.js';
import { EncodedMirror } from './support/encoded-model.js';
import { makeBench, type Bench, type Geometry } from './support/kv-model.js';

/** A layout of items, in pages of 128 bytes with 4 plain rows. */
const layout = fc.record({
  rows: fc.integer({ min: 1, max: 9 }),
  padding: fc.integer({ min: 0, max: 3 }),
  header: fc.integer({ min: 0, max: 20 }),
});
type Layout = typeof layout extends fc.Arbitrary<infer S> ? S : never;
const shape = fc.record({ keys: layout, values: layout, implied: fc.boolean() });
type Shape = typeof shape extends fc.Arbitrary<infer S> ? S : never;

const rule = fc.option(
  fc.record({ block: fc.integer({ min: 1, max: 9 }), keep: fc.nat(12) }),
  { nil: undefined, freq: 6 }, // of 7 rules one is missing
);

/** One random step; numbers are taken modulo what is possible at that moment. */
const step = fc.record({
  what: fc.constantFrom(
    ...(['append', 'append', 'decode', 'decode', 'encode', 'encode', 'batch', 'fail'] as const),
    ...(['truncate', 'drop', 'compact', 'fork', 'own', 'dispose', 'trim'] as const),
  ),
  who: fc.nat(),
  layer: fc.nat(1),
  count: fc.nat(1000),
  keys: rule,
  values: rule,
  check: fc.boolean(),
});
type Step = typeof step extends fc.Arbitrary<infer S> ? S : never;

const items = ({ rows, padding, header }: Layout) => ({
  rows,
  bytes: rows * 32 + padding * 16,
  header: header * 16,
});

class World {
  readonly bench: Bench;
  mirrors: EncodedMirror[];
  checks: (() => Promise<void>)[] = [];
  #token = 0;

  constructor({ keys, values, implied }: Shape) {
    const geometry: Geometry = {
      ...{ layers: 2, heads: 2, headDim: 8, dtype: 'float32', pageBytes: 128 },
      positions: implied ? 'implied' : 'stored',
      encoded: { keys: items(keys), values: items(values) },
    };
    this.bench = makeBench(geometry, 8192);
    this.mirrors = [new EncodedMirror(this.bench)];
  }

  apply({ what, who, layer, count, keys, values, check }: Step): void {
    const mirror = this.mirrors[who % this.mirrors.length];
    if (mirror === undefined) return;
    const rules: KvEncodeRules = { ...(keys && { keys }), ...(values && { values }) };
    const rows = mirror.kv.rows(layer, 0);
    const encoded = mirror.encoded[layer] ?? { keys: 0, values: 0 };
    const least = Math.max(encoded.keys, encoded.values);
    switch (what) {
      case 'append':
        mirror.append(layer, this.#tokens(count % 40));
        break;
      case 'decode':
        for (let i = 0; i < 5; i++) {
          mirror.append(layer, this.#tokens(1));
          mirror.encode(layer, rules);
        }
        break;
      case 'encode':
        mirror.encode(layer, rules);
        break;
      case 'batch': {
        const [first, ...others] = this.mirrors as [EncodedMirror];
        first.encode(layer, rules, others);
        break;
      }
      case 'fail':
        this.#fail(mirror, layer, rules);
        break;
      case 'truncate':
        mirror.truncate(layer, least + (count % (rows - least + 1)));
        break;
      case 'drop':
        mirror.drop(layer, rows - (count % (rows - least + 1)), count % (rows - least + 1));
        break;
      case 'compact':
        this.#compact(mirror, layer, count);
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
      case 'trim':
        this.bench.pool.trim();
        break;
    }
    for (const each of this.mirrors) {
      const { arithmetic, measured, pages } = each.kv.bytes();
      expect(arithmetic).toBe(each.arithmetic());
      expect(pages).toBe(each.pages());
      expect(measured).toBe(pages * 128);
    }
    if (check && this.mirrors.includes(mirror)) this.checks.push(mirror.check());
  }

  /** An op that cannot be enqueued: rows stay plain. The header stays if it was made now. */
  #fail(mirror: EncodedMirror, layer: number, rules: KvEncodeRules): void {
    const run = (): never => {
      throw new RangeError('on purpose');
    };
    expect(() => mirror.kv.encode(layer, rules, run)).toThrow('on purpose');
    mirror.encoded[layer] ??= { keys: 0, values: 0 };
  }

  /** Every second row stays, unless some are encoded, there is a header, or positions are implied. */
  #compact(mirror: EncodedMirror, layer: number, count: number): void {
    const kept = mirror
      .layer(layer)
      .map((rows) => rows.flatMap((_, row) => ((row + count) % 2 === 0 ? [row] : [])));
    const { positions, encoded: formats } = this.bench.geometry;
    const encoded = mirror.encoded[layer];
    const header = (formats?.keys?.header ?? 0) + (formats?.values?.header ?? 0) > 0;
    const refused =
      positions === 'implied' ||
      (encoded !== undefined && (header || encoded.keys > 0 || encoded.values > 0));
    try {
      mirror.compact(layer, kept);
      expect(refused).toBe(false);
      mirror.encoded[layer] = undefined;
    } catch (error) {
      if (!AccelError.isInstance(error) || error.code !== 'ERR_ACCEL_ARGUMENT') throw error;
      expect(refused).toBe(true);
    }
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

test('any sequence of operations leaves the rows, forms and pages that plain lists would have', async () => {
  await fc.assert(
    fc.asyncProperty(
      shape,
      fc.array(step, { minLength: 1, maxLength: 40 }),
      async (made, steps) => {
        const world = new World(made);
        for (const each of steps) world.apply(each);
        await world.finish();
      },
    ),
    { numRuns: 200 },
  );
});
