// What this device reaches on the plainest work, through our own ops: a copy of memory and a large GEMM. Shares of other
// measurements are shares of these.
import { Device, ops, Tensor } from '@accel/kernels';
import { normal } from './data.mjs';
import { Timer } from './timing.mjs';

const EDGE = 8192;

export async function ceilings(run) {
  const device = Device.open(run.device);
  const stream = device.createStream();
  const timer = new Timer(stream, () => undefined, { samples: run.quick ? 5 : 9 });
  await run.part('ceilings', 'copy', 10, async () => {
    // 2 GB: far more than any cache. Rows of 256 KB, gathered in order.
    const [rows, columns] = [1 << 13, 1 << 17];
    const from = normal(device, stream, [rows, columns]);
    const to = Tensor.empty(device, 'bfloat16', [rows, columns]);
    const order = Int32Array.from({ length: rows }, (_, row) => row);
    const gathered = await timer.measure(() => ops.gatherRows(stream, to, from, order));
    const cast = await timer.measure(() => ops.cast(stream, to, from));
    const us = Math.min(gathered.us, cast.us);
    const bytes = 2 * from.byteLength;
    run.ceiling.bytesPerSecond = (bytes / us) * 1e6;
    run.emit({
      group: 'ceilings',
      name: 'copy',
      shape: '2 GB read, 2 GB written',
      us,
      gbps: bytes / us / 1e3,
    });
    from.dispose();
    to.dispose();
  });
  await run.part('ceilings', 'gemm', 10, async () => {
    const x = normal(device, stream, [EDGE, EDGE]);
    const weight = normal(device, stream, [EDGE, EDGE], 0.02);
    const out = Tensor.empty(device, 'bfloat16', [EDGE, EDGE]);
    const { us } = await timer.measure(() => ops.linear(stream, out, x, weight));
    const flops = 2 * EDGE ** 3;
    run.ceiling.flopsPerSecond = (flops / us) * 1e6;
    run.emit({
      group: 'ceilings',
      name: 'bf16 GEMM',
      shape: `${EDGE}³`,
      us,
      tflops: flops / us / 1e6,
      kernels: stream.kernels(),
    });
    for (const tensor of [x, weight, out]) tensor.dispose();
  });
  stream.dispose();
}
