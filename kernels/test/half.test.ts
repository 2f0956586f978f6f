import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { fromBfloat16, fromFloat16, toBfloat16, toFloat16 } from '../ts/index.js';

const everyBits = Uint16Array.from({ length: 65_536 }, (_, bits) => bits);

const formats = [
  { name: 'bfloat16', to: toBfloat16, from: fromBfloat16, infinity: 0x7f80 },
  { name: 'float16', to: toFloat16, from: fromFloat16, infinity: 0x7c00 },
];

describe.each(formats)('$name', ({ to, from, infinity }) => {
  test('every value goes there and back', () => {
    const values = from(everyBits);
    const back = to(values);
    for (const bits of everyBits) {
      const magnitude = bits & 0x7fff;
      if (magnitude > infinity) {
        expect(values[bits]).toBeNaN();
        expect((back[bits] ?? 0) & 0x7fff).toBeGreaterThan(infinity);
      } else if (back[bits] !== bits) {
        expect.unreachable(`${bits} became ${back[bits]}`);
      }
    }
  });

  test('rounds to the nearest, ties to even', () => {
    // Neighbours of any value are the values of the bits around it.
    const finite = fc.float({ noNaN: true, noDefaultInfinity: true });
    fc.assert(
      fc.property(finite, (value) => {
        const [bits = 0] = to(Float32Array.of(value));
        const magnitude = bits & 0x7fff;
        if (magnitude === infinity) return;
        const at = (m: number): number => Math.abs(from(Uint16Array.of(m))[0] ?? 0);
        const distance = Math.abs(at(magnitude) - Math.abs(value));
        const above = Math.abs(at(magnitude + 1) - Math.abs(value));
        const below = magnitude === 0 ? Infinity : Math.abs(at(magnitude - 1) - Math.abs(value));
        expect(distance).toBeLessThanOrEqual(Math.min(above, below));
        if (distance === above || distance === below) expect(magnitude & 1).toBe(0);
        expect(Math.sign(from(Uint16Array.of(bits))[0] ?? 0) * Math.sign(value)).not.toBe(-1);
      }),
      { numRuns: 5000 },
    );
  });
});

test('the edges of float16', () => {
  const values = Float32Array.of(
    65504,
    65519.996,
    65520,
    -65520,
    2 ** -24,
    2 ** -25,
    2 ** -25 * 1.0001,
    2 ** -14,
  );
  expect([...toFloat16(values)]).toEqual([0x7bff, 0x7bff, 0x7c00, 0xfc00, 1, 0, 1, 0x0400]);
});
