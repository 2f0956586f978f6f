import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  type BlockFormat,
  blockFormats,
  Device,
  fromBfloat16,
  fromFloat16,
  ops,
  Tensor,
  toBfloat16,
  toFloat16,
} from '../ts/index.js';
import { describeDevices } from './support/devices.js';
import { expectError } from './support/errors.js';
import { describeParity, EXACT, floatFormats, parity } from './support/parity.js';
import { packageFolder } from './support/paths.js';

/** Random blocks and what ggml's reference makes of them. */
const golden = JSON.parse(
  readFileSync(join(packageFolder, 'test/dequantize.golden.json'), 'utf8'),
) as { formats: Record<BlockFormat, { blocks: string; values: string }> };

const names = Object.keys(blockFormats) as BlockFormat[];
const bytesOf = (base64: string): Uint8Array => Uint8Array.from(Buffer.from(base64, 'base64'));

describeDevices('dequantize', (id) => {
  test.each(names)('%s is what ggml computes, to the bit', async (format) => {
    const { elements } = blockFormats[format];
    const blocks = bytesOf(golden.formats[format].blocks);
    const values = new Float32Array(bytesOf(golden.formats[format].values).buffer);
    const device = Device.open(id);
    using stream = device.createStream();
    const rows = values.length / elements;
    using x = Tensor.from(device, blocks, [rows, blocks.length / rows]);

    using float = Tensor.empty(device, 'float32', [rows, elements]);
    ops.dequantize(stream, float, x, format);
    const got = (await float.read(stream)) as Float32Array;
    // Compared as bits, which tell 0 from -0.
    expect(new Uint32Array(got.buffer, got.byteOffset, got.length)).toEqual(
      new Uint32Array(values.buffer),
    );

    // Rounded once, to nearest even.
    using brain = Tensor.empty(device, 'bfloat16', [rows, elements]);
    ops.dequantize(stream, brain, x, format);
    expect(await brain.read(stream)).toEqual(fromBfloat16(toBfloat16(values)));
    using half = Tensor.empty(device, 'float16', [rows, elements]);
    ops.dequantize(stream, half, x, format);
    expect(await half.read(stream)).toEqual(fromFloat16(toFloat16(values)));
  });

  test('rows of several blocks, many of them, none', async () => {
    const device = Device.open(id);
    using stream = device.createStream();
    const { blocks, values } = golden.formats.Q5_1;
    const [eight, want] = [bytesOf(blocks), new Float32Array(bytesOf(values).buffer)];
    const rows = 1000;
    const many = new Uint8Array(rows * eight.length);
    for (let r = 0; r < rows; r++) many.set(eight, r * eight.length);
    using x = Tensor.from(device, many, [rows, eight.length]);
    using out = Tensor.empty(device, 'float32', [rows, want.length]);
    ops.dequantize(stream, out, x, 'Q5_1');
    const got = (await out.read(stream)) as Float32Array;
    for (let r = 0; r < rows; r++) {
      expect(got.subarray(r * want.length, (r + 1) * want.length)).toEqual(want);
    }
    using none = Tensor.empty(device, 'uint8', [0, 24]);
    using nothing = Tensor.empty(device, 'float32', [0, 32]);
    ops.dequantize(stream, nothing, none, 'Q5_1');
    await stream.synchronize();
  });

  test('refuses shapes and formats that do not fit', () => {
    const device = Device.open(id);
    using stream = device.createStream();
    using x = Tensor.empty(device, 'uint8', [2, 36]);
    using out = Tensor.empty(device, 'float32', [2, 64]);
    using short = Tensor.empty(device, 'float32', [2, 63]);
    using ints = Tensor.empty(device, 'int32', [2, 64]);
    expectError(
      () => ops.dequantize(stream, out, x, 'Q4_1'),
      'ERR_ACCEL_SHAPE',
      /64 columns.*36 bytes.*32 elements in 20 bytes/,
    );
    expectError(() => ops.dequantize(stream, short, x, 'Q4_0'), 'ERR_ACCEL_SHAPE');
    expectError(() => ops.dequantize(stream, ints, x, 'Q4_0'), 'ERR_ACCEL_DTYPE');
    expectError(() => ops.dequantize(stream, out, out, 'Q4_0'), 'ERR_ACCEL_DTYPE');
  });
});

describeParity('block formats', () => {
  parity(
    'dequantize',
    fc.record({
      format: fc.constantFrom(...names),
      dtype: floatFormats,
      rows: fc.integer({ min: 1, max: 40 }),
      blocks: fc.integer({ min: 1, max: 9 }),
    }),
    () => EXACT,
    async (side, { format, dtype, rows, blocks }, numbers) => {
      const { elements, bytes } = blockFormats[format];
      const noise = Uint8Array.from({ length: rows * blocks * bytes }, () => numbers.integer(256));
      // Halves whose exponent is all ones are NaN or infinity; their scales lie at these bytes of a block.
      for (const at of format === 'Q6_K' ? [209] : [1, 3]) {
        for (let b = at; b < noise.length; b += bytes) noise[b] = (noise[b] ?? 0) & 0xbb;
      }
      using x = Tensor.from(side.device, noise, [rows, blocks * bytes]);
      const out = side.out(dtype, [rows, blocks * elements]);
      ops.dequantize(side.stream, out, x, format);
      return await side.read({ out });
    },
  );
});
