// Linear layers: bound by the weights for few rows, by arithmetic for many.
import { ops, Tensor } from '@accel/kernels';
import { normal } from './data.mjs';
import { LLAMA } from './shapes.mjs';

const { hidden, intermediate, heads, kvHeads, headDim, vocab } = LLAMA;
/** Weights of a cycle together, so that decode reads them from memory as in a model: several times the L2 cache. */
const CYCLE_BYTES = 400e6;

export async function linearKernels({ run, device, stream, bench }) {
  const weightSets = (shapes) => {
    const bytes = shapes.reduce((sum, [n, k]) => sum + 2 * n * k, 0);
    const count = Math.max(2, Math.ceil(CYCLE_BYTES / bytes));
    return Array.from({ length: count }, () =>
      shapes.map((shape) => normal(device, stream, shape, 0.02)),
    );
  };
  const layers = [
    [
      'linear_group (qkv)',
      [
        [heads * headDim, hidden],
        [kvHeads * headDim, hidden],
        [kvHeads * headDim, hidden],
      ],
      'group',
    ],
    ['linear (o)', [[hidden, heads * headDim]], 'linear'],
    [
      'gated_linear (gate, up)',
      [
        [intermediate, hidden],
        [intermediate, hidden],
      ],
      'gated',
    ],
    ['linear (down)', [[hidden, intermediate]], 'linear'],
    ['linear (lm_head)', [[vocab, hidden]], 'logits'],
  ];
  for (const [name, shapes, kind] of layers) {
    if (run.left() < 5) break;
    const sets = weightSets(shapes);
    const k = shapes[0][1];
    const columns = shapes.reduce((sum, [n]) => sum + n, 0);
    for (const rows of kind === 'logits' ? [1, 8] : [1, 8, 4096]) {
      const x = normal(device, stream, [rows, k]);
      const widths = kind === 'gated' ? [intermediate] : shapes.map(([n]) => n);
      const dtype = kind === 'logits' ? 'float32' : 'bfloat16';
      const outs = widths.map((n) => Tensor.empty(device, dtype, [rows, n]));
      const call = (i) => {
        const weights = sets[i];
        if (kind === 'group') ops.linearGroup(stream, outs, x, weights, [null, null, null]);
        else if (kind === 'gated') ops.gatedLinear(stream, outs[0], x, weights[0], weights[1]);
        else ops.linear(stream, outs[0], x, weights[0]);
      };
      const weightBytes = 2 * columns * k;
      const activations = x.byteLength + outs.reduce((sum, out) => sum + out.byteLength, 0);
      const work =
        rows <= 8 ? { bytes: weightBytes + activations } : { flops: 2 * rows * columns * k };
      await bench(
        name,
        `M=${rows} N=${shapes.map(([n]) => n).join('+')} K=${k}`,
        work,
        call,
        sets.length,
      );
      for (const tensor of [x, ...outs]) tensor.dispose();
    }
    for (const tensor of sets.flat()) tensor.dispose();
  }
}
