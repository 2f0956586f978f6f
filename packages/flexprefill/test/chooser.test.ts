import { Tensor } from '@accel/kernels';
import {
  describeDevices,
  knownInputs,
  partSetup,
  queryRows,
  sparseCache,
  unpackMask,
} from '@accel/testkit';
import { describe, expect, it } from 'vitest';
import { flexprefill } from '../src/index.js';
import { ones } from './run.js';

const setup = {} as never;

describe('the chooser', () => {
  it.each([
    [{}, 512],
    [{ minBudget: null }, 256],
    [{ minBudget: 1000 }, 1024],
    [{ minBudget: null, blockSize: 64 }, 128],
    [{ minBudget: 1000, blockSize: 64 }, 1024],
  ] as const)('with %o is dense up to %i rows', (options, rows) => {
    const chooser = flexprefill(options).create(setup);
    expect(chooser.idleRows).toBe(rows);
    expect(chooser.choose({ m: rows, rows } as never)).toMatch(`up to ${rows} rows`);
    expect(chooser.fork().idleRows).toBe(rows);
  });

  it('is dense for fewer queries than it observes', () => {
    const chooser = flexprefill().create(setup);
    expect(chooser.choose({ m: 127, rows: 4096 } as never)).toMatch(/fewer than the 128/);
  });

  it('names the kernel that receipts list as a fallback', () => {
    const { slowKernels = {} } = flexprefill().create(setup);
    expect(Object.keys(slowKernels)).toEqual(['flexprefill_plain']);
  });

  it('has nothing to save', () => {
    const chooser = flexprefill().create(setup);
    expect(chooser.save?.()).toBeNull();
    chooser.dispose();
  });
});

describeDevices('the chooser', (device) => {
  it.each([64, 128] as const)('fills mask and figures in blocks of %i', async (blockSize) => {
    const inputs = knownInputs(2048, 64);
    using cache = sparseCache(device, inputs, { dtype: 'bfloat16' });
    const { stream } = cache;
    const chooser = flexprefill({ blockSize, minBudget: 128 }).create(partSetup(cache, {}));
    using q = cache.floats(queryRows(inputs), [2048, 4, 64]);
    using mask = Tensor.empty(cache.device, 'int32', [16, 4, 1]);
    using figures = Tensor.empty(cache.device, 'float32', [4, 5]);
    const reason = chooser.choose({
      layer: 0,
      stream,
      q,
      kv: cache.kv.kv(0),
      m: 2048,
      rows: 2048,
      scale: 1 / 8,
      mask,
      figures,
    });
    expect(reason).toBeUndefined();
    const bits = unpackMask((await mask.read(stream)) as Int32Array, 16, 4, 16);
    if (blockSize === 128) expect(ones(bits)).toBe(129 + 108 + 111 + 112);
    else expect(ones(bits)).toBeGreaterThan(4 * 31);
    expect(stream.kernels().flexprefill_blocks).toBe(1);
  });
});
