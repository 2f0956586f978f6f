import {
  describeDevices,
  describeGolden,
  goldenConfigErrors,
  structuredInputs,
  type GoldenCase,
} from '@accel/testkit';
import { expect, it } from 'vitest';
import type { Stride } from '../src/index.js';
import { estimate } from './harness.js';
import { select } from './select.js';

/** Values of output rows, `[heads, rows, width]`, from `[m, heads, width]`. */
function sampled(all: Float32Array, rows: Int32Array, heads: number, width: number): Float32Array {
  const out = new Float32Array(heads * rows.length * width);
  for (let head = 0; head < heads; head++) {
    for (const [i, row] of rows.entries()) {
      const from = (row * heads + head) * width;
      out.set(all.subarray(from, from + width), (head * rows.length + i) * width);
    }
  }
  return out;
}

const bytes = (golden: GoldenCase, name: string): Uint8Array =>
  Uint8Array.from(golden.tensor(name).data, Number);

describeGolden('xattention', (cases) => {
  describeDevices('golden cases', (device) => {
    it('select by the same rule', async () => {
      const golden = cases.find(({ id }) => id === 'xattn-select-rule') as GoldenCase;
      const [rows = 0, columns = 0] = golden.tensor('block_sums').shape;
      const meta = golden.ints('meta');
      const { mask } = await select(
        device,
        golden.floats('block_sums'),
        Array.from({ length: rows }, (_, row) => ({
          diagonal: meta[3 * row + 1] as number,
          first: meta[3 * row + 2] === 1,
          threshold: golden.doubles('threshold')[row] as number,
        })),
      );
      expect(mask).toEqual(bytes(golden, 'selected'));
      expect(mask).toHaveLength(rows * columns);
    });

    for (const golden of cases.filter(({ params }) => 'N' in params)) {
      it(`${golden.id}: ${golden.title}`, async () => {
        const inputs = structuredInputs(golden);
        const heads = inputs.heads;
        const begin = golden.param('q_offset');
        const call = {
          stride: golden.param('stride') as Stride,
          threshold: golden.params.threshold as number[],
          norm: golden.param('norm'),
        };
        // Inputs of tail queries may hold the queries of all tokens or of the tail only.
        const short = inputs.q.length < inputs.tokens * heads * inputs.headDim;
        const padded = short
          ? withPrefix(inputs.q, inputs.tokens * heads * inputs.headDim)
          : inputs.q;
        const prompt = { ...inputs, q: padded };
        const first = golden.param('first_chunk_blocks');
        const compat = await estimate(device, prompt, { ...call, begin, first, attend: true });
        golden.expectClose('block_sums', compat.sums);
        expect(compat.mask).toEqual(bytes(golden, 'mask'));
        const clean = await estimate(device, prompt, { ...call, begin });
        expect(clean.mask).toEqual(bytes(golden, 'mask_clean'));

        const rows = golden.ints('rows');
        golden.expectClose('o', sampled(compat.out, rows, heads, inputs.headDim));
        golden.expectClose('lse', sampled(compat.lse, rows, heads, 1));
      });
    }

    it.each(
      cases
        .filter(({ params }) => 'N' in params)
        .slice(0, 4)
        .map((golden) => ({ golden })),
    )('$golden.id in 16 bits: the same masks', async ({ golden }) => {
      const inputs = structuredInputs(golden);
      const threshold = golden.params.threshold as number[];
      const stride = golden.param('stride') as Stride;
      for (const dtype of ['bfloat16', 'float16'] as const) {
        const got = await estimate(device, inputs, { stride, threshold, dtype });
        expect(got.mask).toEqual(bytes(golden, 'mask_clean'));
        golden.expectClose('block_sums', got.sums);
      }
    });

    it('refuses what has no block grid', async () => {
      for (const { params } of goldenConfigErrors('xattention')) {
        const golden = cases.find(({ id }) => id === 'xattn-1k-s16-d64') as GoldenCase;
        const call = { stride: 16, threshold: 0.9, begin: params.q_offset as number } as const;
        const refused = estimate(device, structuredInputs(golden), call);
        await expect(refused).rejects.toMatchObject({ code: 'ERR_ACCEL_ARGUMENT' });
      }
      expect(goldenConfigErrors('xattention')).not.toHaveLength(0);
    });
  });
});

function withPrefix(tail: Float32Array, length: number): Float32Array {
  const all = new Float32Array(length);
  all.set(tail, length - tail.length);
  return all;
}
