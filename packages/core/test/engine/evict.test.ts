import { Device, KvSequence, ops, PagePool, Tensor } from '@accel/kernels';
import { expect, test } from 'vitest';
import { removeRow, type LayerEnd } from '../../src/index.js';
import { describeDevices } from '../devices.js';

const [heads, headDim] = [2, 8];

describeDevices('removeRow', (device) => {
  test('follows the window when it moves, and shows the merge part every victim first', async () => {
    const opened = Device.open(device);
    using stream = opened.createStream();
    using pool = new PagePool(stream, { pageBytes: 16 * headDim * 4, capacityBytes: 1 << 20 });
    using kv = new KvSequence(pool, { layers: 1, heads, headDim, dtype: 'float32', tallies: 1 });
    let next = 0;
    const want = Array.from({ length: heads }, (): number[] => []);
    const append = (count: number): void => {
      const shape = [count, heads, headDim];
      const positions = Int32Array.from({ length: count }, () => next++);
      using rows = Tensor.from(opened, new Float32Array(count * heads * headDim).fill(1), shape);
      using where = Tensor.from(opened, positions, [count]);
      kv.reserve(0, count);
      ops.kvAppend(stream, kv.kv(0), rows, rows, where, Int32Array.of(count));
      for (const list of want) list.push(...positions);
    };
    let merged = 0;
    const remove = (rows: number[], keep: number): void => {
      using victims = Tensor.from(opened, Int32Array.from(rows), [heads]);
      const end = {
        layer: 0,
        kv,
        rows: kv.rows(0, 0),
        stream,
        merge: () => (merged += 1),
      } as unknown as LayerEnd;
      removeRow(end, victims, keep);
      for (const [head, row] of rows.entries()) want[head]?.splice(row, 1);
    };
    const positions = async (): Promise<number[][]> => {
      const rows = kv.rows(0, 0);
      using out = Tensor.empty(opened, 'int32', [heads, rows]);
      ops.kvRead(stream, null, null, out, kv.kv(0));
      const all = [...((await out.read(stream)) as Int32Array)];
      return want.map((_, head) => all.slice(head * rows, (head + 1) * rows));
    };

    append(60);
    for (let step = 0; step < 40; step++) {
      append(1);
      remove([step, 54 - step], 5); // opens a gap in front of the newest 5
    }
    expect(await positions()).toEqual(want);
    expect(kv.canDrop(0, kv.rows(0, 0) - 9, 1)).toBe(false);
    for (let step = 0; step < 40; step++) {
      append(1);
      remove([0, 20], 8); // the window is larger now: the gap has to move once
    }
    expect(await positions()).toEqual(want);
    remove([3, 3], 0);
    expect(await positions()).toEqual(want);
    expect(merged).toBe(81);
  });
});
