import { ops, Tensor } from '@accel/kernels';
import { describeDevices, errorWith, expectClose, generated, readFloats } from '@accel/testkit';
import { expect, it } from 'vitest';
import type { StreamingllmOptions } from '../src/index.js';
import { cut } from '../src/rules.js';
import { StreamHarness } from './harness.js';

const SHAPE = { heads: 4, kvHeads: 2, dim: 8, base: 10_000, tallies: 1 };
const GROUP = SHAPE.heads / SHAPE.kvHeads;
const STREAM = { sink: 4, recent: 8 };
const NEAR = { abs: 2e-5, rel: 0 };
type Positions = 'cacheRelative' | 'original';

/** A stream in plain TypeScript: queries and keys are rotated where the form says, and see a window there. */
class PlainStream {
  readonly #positions: Positions;
  readonly #window: number;
  #seen = 0;
  #rows: { readonly position: number; readonly k: Float32Array; readonly v: Float32Array }[] = [];

  constructor(positions: Positions, window: number) {
    this.#positions = positions;
    this.#window = window;
  }

  /** Appends the tokens of `[m, heads, dim]` queries and gives their outputs. */
  forward(q: Float32Array, k: Float32Array, v: Float32Array): number[] {
    const { heads, kvHeads, dim } = SHAPE;
    const m = q.length / (heads * dim);
    const width = kvHeads * dim;
    for (let i = 0; i < m; i++) {
      const at = [i * width, (i + 1) * width] as const;
      this.#rows.push({ position: this.#seen++, k: k.subarray(...at), v: v.subarray(...at) });
    }
    const place = (row: number): number =>
      this.#positions === 'original' ? (this.#rows[row]?.position ?? NaN) : row;
    return Array.from({ length: m * heads }, (_, at) => {
      const [i, head] = [Math.floor(at / heads), at % heads];
      const own = this.#rows.length - m + i;
      const query = rotate(q.subarray(at * dim, (at + 1) * dim), place(own));
      const kv = Math.floor(head / GROUP) * dim;
      const logits = this.#rows.slice(0, own + 1).map(({ k: key }, row) => {
        if (this.#window > 0 && place(own) - place(row) >= this.#window) return -Infinity;
        const rotated = rotate(key.subarray(kv, kv + dim), place(row));
        return query.reduce((sum, x, c) => sum + x * (rotated[c] ?? NaN), 0) / Math.sqrt(dim);
      });
      const most = Math.max(...logits);
      const weights = logits.map((x) => Math.exp(x - most));
      const total = weights.reduce((a, b) => a + b, 0);
      return Array.from({ length: dim }, (_unused, c) =>
        weights.reduce((sum, w, row) => sum + (w / total) * (this.#rows[row]?.v[kv + c] ?? 0), 0),
      );
    }).flat();
  }

  /** What leaves after a prompt or a step. */
  end(): void {
    const { at, count } = cut(STREAM, this.#rows.length);
    this.#rows.splice(at, count);
  }
}

function rotate(x: Float32Array, position: number): number[] {
  const half = x.length / 2;
  return Array.from(x, (value, c) => {
    const angle = position * SHAPE.base ** (-(2 * (c % half)) / x.length);
    const other = c < half ? -(x[c + half] ?? NaN) : (x[c - half] ?? NaN);
    return value * Math.cos(angle) + other * Math.sin(angle);
  });
}

function tokens(seed: number, m: number): [Float32Array, Float32Array, Float32Array] {
  const part = (heads: number, at: number): Float32Array =>
    generated(seed + at, m * heads * SHAPE.dim, 2);
  return [part(SHAPE.heads, 0), part(SHAPE.kvHeads, 1000), part(SHAPE.kvHeads, 2000)];
}

describeDevices('StreamingLLM on a model with a sliding window', (device) => {
  // One position, less than the recent rows, among the sinks, the whole cache, more.
  const windows = [0, 1, 5, 9, 10, 11, 12, 13, 50];
  const forms = (['cacheRelative', 'original'] as const).flatMap((positions) =>
    windows.map((window) => ({ positions, window })),
  );

  it.each(forms)('sees $window of $positions positions', async ({ positions, window }) => {
    using harness = new StreamHarness(device, { ...SHAPE, window }, { ...STREAM, positions });
    const plain = new PlainStream(positions, window);
    const masses: Promise<number[]>[] = [];
    if (positions === 'cacheRelative') count(harness, masses);
    // A prompt, steps, and a later turn on a cache with a hole.
    for (const [turn, m] of [20, 1, 1, 1, 7, 1].entries()) {
      if (m > 1) harness.turnStart(m);
      const given = tokens(10 * turn, m);
      expectClose(await harness.forward(...given), plain.forward(...given), NEAR, `piece ${turn}`);
      const mass = (await Promise.all(masses.splice(0))).reduce(
        (sum, part) => sum.map((x, head) => x + (part[head] ?? NaN)),
        [0, 0],
      );
      // What is counted uses the window that was attended with: the weights of a query add up to one.
      if (positions === 'cacheRelative')
        expectClose(mass, [m * GROUP, m * GROUP], { abs: 1e-4, rel: 0 }, `mass of piece ${turn}`);
      harness.end(m > 1 ? 'prefill' : 'decode');
      plain.end();
    }
  });

  it.each(forms)(
    'a banded prompt equals the stream token by token: $window of $positions positions',
    async ({ positions, window }) => {
      const options: StreamingllmOptions = { ...STREAM, positions, prefill: 'banded' };
      const length = 30;
      const [q, k, v] = tokens(7, length);
      using whole = new StreamHarness(device, { ...SHAPE, window }, options);
      whole.turnStart(length);
      // The window ends among the sinks.
      if (positions === 'cacheRelative' && window > STREAM.recent && window <= 12) {
        const refused = errorWith('ERR_ACCEL_POLICY', 'sliding window');
        await expect(whole.forward(q, k, v)).rejects.toThrow(refused);
        return;
      }
      const got = await whole.forward(q, k, v);
      const plain = new PlainStream(positions, window);
      const one = (data: Float32Array, heads: number, i: number): Float32Array =>
        data.subarray(i * heads * SHAPE.dim, (i + 1) * heads * SHAPE.dim);
      const want = Array.from({ length }, (_, i) => {
        const out = plain.forward(one(q, 4, i), one(k, 2, i), one(v, 2, i));
        plain.end();
        return out;
      });
      expectClose(got, want.flat(), NEAR, 'outputs');
    },
  );
});

/** Has the harness count what rows receive: the sum over rows, by kv head, of each call. */
function count(harness: StreamHarness, masses: Promise<number[]>[]): void {
  const { stream, kv, device } = harness.cache;
  const options = { scale: 1 / Math.sqrt(SHAPE.dim), reduce: 'sum' } as const;
  harness.attended = (q, lse, begin, end, window) => {
    const rows = harness.rows;
    using sums = Tensor.from(device, new Float32Array(SHAPE.kvHeads * rows), [SHAPE.kvHeads, rows]);
    if ((q.shape[0] ?? 0) === 1) {
      const how = { ...options, window, tally: 0, ranges: Int32Array.of(begin, end) };
      ops.tallyStep(stream, kv.kv(0), q, lse, { ...how, accumulate: false });
      ops.tallyRead(stream, sums, kv.kv(0), 0);
    } else {
      ops.columnSums(stream, sums, q, lse, kv.kv(0), { ...options, window, range: [begin, end] });
    }
    masses.push(
      readFloats(sums, stream).then((all) =>
        Array.from({ length: SHAPE.kvHeads }, (_, head) =>
          all.subarray(head * rows + begin, head * rows + end).reduce((a, b) => a + b, 0),
        ),
      ),
    );
  };
}
