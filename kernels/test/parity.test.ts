import fc from 'fast-check';
import { ops } from '../ts/index.js';
import {
  describeParity,
  EXACT,
  floatFormats,
  parity,
  ROUNDED,
  sameFailure,
  tokenCounts,
  TWICE,
} from './support/parity.js';

const widths = fc.oneof(
  fc.constantFrom(1, 8, 64, 100, 128, 256, 512),
  fc.integer({ min: 1, max: 400 }),
);
const rows = fc.record({ dtype: floatFormats, tokens: tokenCounts, width: widths });
/** Inner dimensions: whole vectors, tails of a vector, and one that no vector divides. */
const inner = fc.constantFrom(8, 24, 33, 64, 72, 100, 256, 512, 1024);

describeParity('linear layers', () => {
  parity(
    'linear',
    fc.record({
      dtype: floatFormats,
      wide: fc.boolean(),
      tokens: tokenCounts,
      n: widths,
      k: inner,
      bias: fc.boolean(),
      accumulate: fc.boolean(),
    }),
    // The CPU rounds a product before it adds it to out, as PyTorch does; cuBLASLt adds first.
    ({ dtype, wide, accumulate }) => (accumulate ? TWICE : ROUNDED)[wide ? 'float32' : dtype],
    async (side, { dtype, wide, tokens, n, k, bias, accumulate }, numbers) => {
      const x = side.floats(numbers.normal(tokens * k), [tokens, k], dtype);
      const weight = side.floats(numbers.normal(n * k, 1 / Math.sqrt(k)), [n, k], dtype);
      const before = numbers.normal(tokens * n);
      const out = side.floats(before, [tokens, n], wide ? 'float32' : dtype);
      const offset = bias ? side.floats(numbers.normal(n), [n], dtype) : null;
      ops.linear(side.stream, out, x, weight, offset, accumulate);
      return await side.read({ out });
    },
    60,
  );

  parity(
    'linear_group',
    fc.record({
      dtype: floatFormats,
      tokens: tokenCounts,
      k: inner,
      group: fc.array(fc.tuple(widths, fc.boolean()), { minLength: 1, maxLength: 3 }),
    }),
    ({ dtype }) => ROUNDED[dtype],
    async (side, { dtype, tokens, k, group }, numbers) => {
      const x = side.floats(numbers.normal(tokens * k), [tokens, k], dtype);
      const outs = group.map(([n]) => side.out(dtype, [tokens, n]));
      const weights = group.map(([n]) =>
        side.floats(numbers.normal(n * k, 1 / Math.sqrt(k)), [n, k], dtype),
      );
      const biases = group.map(([n, has]) =>
        has ? side.floats(numbers.normal(n), [n], dtype) : null,
      );
      ops.linearGroup(side.stream, outs, x, weights, biases);
      return await side.read(Object.fromEntries(outs.map((out, i) => [`out${i}`, out])));
    },
  );

  parity(
    'gated_linear',
    fc.record({ dtype: floatFormats, tokens: tokenCounts, n: widths, k: inner }),
    ({ dtype }) => TWICE[dtype],
    async (side, { dtype, tokens, n, k }, numbers) => {
      const x = side.floats(numbers.normal(tokens * k), [tokens, k], dtype);
      const gate = side.floats(numbers.normal(n * k, 1 / Math.sqrt(k)), [n, k], dtype);
      const up = side.floats(numbers.normal(n * k, 1 / Math.sqrt(k)), [n, k], dtype);
      const out = side.out(dtype, [tokens, n]);
      ops.gatedLinear(side.stream, out, x, gate, up);
      return await side.read({ out });
    },
  );
});

describeParity('elementwise ops', () => {
  parity(
    'embedding',
    rows,
    () => EXACT,
    async (side, { dtype, tokens, width }, numbers) => {
      const table = side.floats(numbers.normal(50 * width), [50, width], dtype);
      const out = side.out(dtype, [tokens, width]);
      ops.embedding(side.stream, out, side.ints(numbers.integers(tokens, 50)), table);
      return await side.read({ out });
    },
  );

  parity(
    'rmsnorm',
    rows,
    // Rounded before and after the weight.
    ({ dtype }) => TWICE[dtype],
    async (side, { dtype, tokens, width }, numbers) => {
      const x = side.floats(numbers.normal(tokens * width), [tokens, width], dtype);
      const weight = side.floats(numbers.normal(width), [width], dtype);
      const out = side.out(dtype, [tokens, width]);
      ops.rmsnorm(side.stream, out, x, weight, 1e-5);
      ops.rmsnorm(side.stream, x, x, weight, 1e-5);
      return await side.read({ out, x });
    },
  );

  parity(
    'swiglu',
    rows,
    ({ dtype }) => ROUNDED[dtype],
    async (side, { dtype, tokens, width }, numbers) => {
      const gate = side.floats(numbers.normal(tokens * width, 4), [tokens, width], dtype);
      const up = side.floats(numbers.normal(tokens * width), [tokens, width], dtype);
      const out = side.out(dtype, [tokens, width]);
      ops.swiglu(side.stream, out, gate, up);
      return await side.read({ out });
    },
  );

  parity(
    'add',
    rows,
    () => EXACT,
    async (side, { dtype, tokens, width }, numbers) => {
      const a = side.floats(numbers.normal(tokens * width), [tokens, width], dtype);
      const b = side.floats(numbers.normal(tokens * width), [tokens, width], dtype);
      const out = side.out(dtype, [tokens, width]);
      ops.add(side.stream, out, a, b);
      ops.add(side.stream, b, b, a);
      return await side.read({ out, b });
    },
  );

  parity(
    'cast',
    fc.record({ from: floatFormats, to: floatFormats, tokens: tokenCounts, width: widths }),
    () => EXACT,
    async (side, { from, to, tokens, width }, numbers) => {
      const data = numbers.normal(tokens * width, 10 ** (numbers.integer(16) - 8));
      // The largest, the smallest and what rounds to infinity.
      data.set([Infinity, -Infinity, 65_520, 6e-8, 3e-8, -0].slice(0, data.length));
      const x = side.floats(data, [tokens, width], from);
      const out = side.out(to, [tokens, width]);
      ops.cast(side.stream, out, x);
      return await side.read({ out });
    },
  );

  parity(
    'gather_rows',
    rows,
    () => EXACT,
    async (side, { dtype, tokens, width }, numbers) => {
      const x = side.floats(numbers.normal(60 * width), [60, width], dtype);
      const out = side.out(dtype, [tokens, width]);
      ops.gatherRows(side.stream, out, x, numbers.integers(tokens, 60));
      return await side.read({ out });
    },
  );

  parity(
    'count_nonfinite',
    rows,
    () => EXACT,
    async (side, { dtype, tokens, width }, numbers) => {
      const data = numbers.normal(tokens * width);
      for (let i = numbers.integer(20); i > 0; i--)
        data[numbers.integer(data.length)] = [NaN, Infinity, -Infinity][i % 3] ?? NaN;
      const out = side.out('int32', [1]);
      ops.countNonfinite(side.stream, out, side.floats(data, [tokens, width], dtype));
      return await side.read({ out });
    },
  );
});

describeParity('rotary embedding', () => {
  const heads = fc.record({
    dtype: floatFormats,
    tokens: tokenCounts,
    heads: fc.integer({ min: 1, max: 8 }),
    dim: fc.constantFrom(8, 64, 80, 128),
    share: fc.constantFrom(1, 0.5),
    interleaved: fc.boolean(),
  });

  parity(
    'rope_table',
    heads,
    // Values up to 1, computed in float64 by different libraries.
    () => ({ abs: 1.2e-7, rel: 0 }),
    async (side, { tokens, dim }, numbers) => {
      const positions = Int32Array.from({ length: tokens }, () => numbers.integer(2e6) - 1e6);
      const frequencies = Float64Array.from({ length: dim / 2 }, (_, c) => 1e4 ** ((-2 * c) / dim));
      const out = side.out('float32', [tokens, dim / 2, 2]);
      const invFreq = side.doubles(frequencies, [dim / 2]);
      ops.ropeTable(side.stream, out, side.ints(positions), invFreq, 0.9);
      return await side.read({ out });
    },
  );

  parity(
    'rope',
    heads,
    ({ dtype }) => ROUNDED[dtype],
    async (side, { dtype, tokens, heads: count, dim, share, interleaved }, numbers) => {
      const half = (dim * share) / 2;
      const x = side.floats(numbers.normal(tokens * count * dim), [tokens, count, dim], dtype);
      const table = side.floats(numbers.normal(tokens * half * 2), [tokens, half, 2]);
      ops.rope(side.stream, x, table, interleaved);
      return await side.read({ x });
    },
  );
});

describeParity('data errors', () => {
  sameFailure('an id outside the table', 'embedding', (side) => {
    const table = side.floats(new Float32Array(40).fill(1), [5, 8]);
    const out = side.out('float32', [3, 8]);
    ops.embedding(side.stream, out, side.ints(Int32Array.of(0, 5, 1)), table);
  });
  sameFailure('NaN', 'topk', (side) => {
    const scores = side.floats(Float32Array.of(1, 2, NaN, 4), [1, 4]);
    ops.topk(side.stream, side.out('int32', [1, 2]), scores, { k: 2 });
  });
  for (const [title, bad] of [
    ['NaN', NaN],
    ['infinity', Infinity],
  ] as const) {
    sameFailure(title, 'sample', (side) => {
      const logits = side.floats(Float32Array.of(1, bad, 3, 4), [1, 4]);
      const one = side.floats(Float32Array.of(1), [1]);
      const zero = side.floats(Float32Array.of(0), [1]);
      const off = side.ints(Int32Array.of(0));
      const uniform = side.doubles(Float64Array.of(0.5), [1]);
      ops.sample(side.stream, side.out('int32', [1]), logits, one, off, one, zero, uniform);
    });
  }
});
