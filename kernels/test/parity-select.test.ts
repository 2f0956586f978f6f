import fc from 'fast-check';
import { ops } from '../ts/index.js';
import { describeParity, EXACT, parity } from './support/parity.js';

describeParity('choosing', () => {
  parity(
    'topk',
    fc.record({
      heads: fc.integer({ min: 1, max: 9 }),
      n: fc.constantFrom(1, 5, 127, 128, 129, 1000, 4097, 131_072),
      share: fc.double({ min: 0, max: 1, noNaN: true }),
      largest: fc.boolean(),
      ties: fc.boolean(),
    }),
    () => EXACT,
    async (side, { heads, n, share, largest, ties }, numbers) => {
      const data = numbers.normal(heads * n);
      if (ties) data.forEach((value, i) => (data[i] = Math.round(2 * value) / 2));
      const [k, scores] = [Math.round(share * n), side.floats(data, [heads, n])];
      const out = side.out('int32', [heads, k]);
      ops.topk(side.stream, out, scores, { k, largest });
      return await side.read({ out });
    },
  );

  parity(
    'sample',
    fc.record({
      batch: fc.integer({ min: 1, max: 9 }),
      vocabulary: fc.constantFrom(1, 2, 100, 4096, 32_000, 128_256),
      greedy: fc.boolean(),
      filters: fc.boolean(),
      ties: fc.boolean(),
    }),
    () => EXACT,
    async (side, { batch, vocabulary, greedy, filters, ties }, numbers) => {
      const logits = numbers.normal(batch * vocabulary, 3);
      if (ties) logits.forEach((value, i) => (logits[i] = Math.round(value)));
      const each = (make: () => number): Float32Array => Float32Array.from({ length: batch }, make);
      const temperature = each(() => (greedy ? 0 : 0.3 + 1.5 * numbers.uniform()));
      const topP = each(() => (filters ? 0.2 + 0.8 * numbers.uniform() : 1));
      const minP = each(() => (filters ? 0.1 * numbers.uniform() : 0));
      const topK = Int32Array.from({ length: batch }, () => (filters ? numbers.integer(60) : 0));
      const uniform = Float64Array.from({ length: batch }, () => numbers.uniform());
      const out = side.out('int32', [batch]);
      ops.sample(
        side.stream,
        out,
        side.floats(logits, [batch, vocabulary]),
        side.floats(temperature, [batch]),
        side.ints(topK),
        side.floats(topP, [batch]),
        side.floats(minP, [batch]),
        side.doubles(uniform, [batch]),
      );
      return await side.read({ out });
    },
  );
});
