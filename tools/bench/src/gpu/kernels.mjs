// Kernels at the shapes of Llama-3.1-8B: decode (1 and 8 rows) and prefill (4096 rows). Memory-bound ones as a share of
// the copy ceiling, products as a share of the GEMM ceiling.
import { Device, ops } from '@accel/kernels';
import { attentionKernels } from './attention.mjs';
import { normal } from './data.mjs';
import { elementwiseKernels } from './elementwise.mjs';
import { linearKernels } from './linear.mjs';
import { Timer } from './timing.mjs';

export async function kernels(run) {
  const device = Device.open(run.device);
  const stream = device.createStream();
  const [x, weight] = [
    normal(device, stream, [2048, 4096]),
    normal(device, stream, [4096, 4096], 0.02),
  ];
  const out = normal(device, stream, [2048, 4096]);
  const blocker = () => ops.linear(stream, out, x, weight);
  const timer = new Timer(stream, blocker, { samples: run.quick ? 5 : 9 });

  /** Measures one op and emits its line. `work` has bytes or flops. */
  const bench = async (name, shape, work, call, cycle = 1) => {
    await run.part('kernels', `${name} ${shape}`, 4, async () => {
      const { us, hostUs, behind, kernels: ran } = await timer.measure(call, cycle);
      run.emit({
        group: 'kernels',
        name,
        shape,
        us,
        ...rates(run, work, us),
        hostUs,
        graph: behind,
        kernels: ran,
      });
    });
  };
  const context = { run, device, stream, bench };
  await linearKernels(context);
  await attentionKernels(context);
  await elementwiseKernels(context);
  // How many of the brackets of small kernels became graphs, and what kept the others from it.
  run.emit({ group: 'kernels', name: 'graphs', graphs: stream.graphs() });
  for (const tensor of [x, weight, out]) tensor.dispose();
  stream.dispose();
}

/** GB/s or TFLOP/s, and the share of what this machine reaches. */
function rates({ ceiling }, { bytes, flops }, us) {
  if (flops !== undefined) {
    const rate = (flops / us) * 1e6;
    return { tflops: rate / 1e12, share: rate / ceiling.flopsPerSecond };
  }
  const rate = (bytes / us) * 1e6;
  return { gbps: rate / 1e9, share: rate / ceiling.bytesPerSecond };
}
