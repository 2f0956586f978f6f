// Attention of one layer: prefill (bound by arithmetic, causal flops are half the square), decode (bound by the cache),
// and the signals that eviction methods read.
import { kvBatch, ops, Tensor } from '@accel/kernels';
import { caches } from './caches.mjs';
import { normal } from './data.mjs';
import { LLAMA } from './shapes.mjs';

const { heads, kvHeads, headDim } = LLAMA;
const scale = 1 / Math.sqrt(headDim);
const rowBytes = 2 * kvHeads * headDim * 2;
/** Mistral 7B's first window. */
const WINDOW = 4096;
/** As in linear.mjs. */
const CYCLE_BYTES = 400e6;

export async function attentionKernels(context) {
  const { run } = context;
  for (const rows of [...new Set([...run.lengths, 4096 + 37])].sort((a, b) => a - b)) {
    if (run.left() > 8) await prefill(context, rows);
  }
  for (const rows of run.lengths) if (run.left() > 5) await decode(context, 1, rows);
  for (const rows of run.lengths.filter((n) => n <= 32768))
    if (run.left() > 5) await decode(context, 8, rows);
  for (const rows of run.lengths.filter((n) => n > WINDOW)) {
    if (run.left() > 5) await decode(context, 1, rows, WINDOW);
    if (run.left() > 8) await prefill(context, rows, WINDOW);
  }
  if (run.left() > 8) await signals(context, Math.max(...run.lengths));
}

/** @param window positions that a query sees; 0: all before it */
async function prefill({ device, stream, bench }, rows, window = 0) {
  const { sequences, dispose } = caches(device, stream, { rows });
  const q = normal(device, stream, [rows, heads, headDim]);
  const out = Tensor.empty(device, 'bfloat16', q.shape);
  const options = { scale, causal: true, window };
  const call = () =>
    ops.attention(stream, out, null, q, sequences[0].kv(0), Int32Array.of(rows), options);
  const pairs = window === 0 ? (rows * rows) / 2 : window * (rows - window / 2);
  await bench(
    'attention (prefill)',
    `${rows} tokens${named(window)}`,
    { flops: 4 * pairs * heads * headDim },
    call,
  );
  for (const tensor of [q, out]) tensor.dispose();
  dispose();
}

async function decode({ device, stream, bench }, batch, rows, window = 0) {
  const bytes = batch * (window || rows) * rowBytes;
  const layers = Math.max(1, Math.ceil(CYCLE_BYTES / bytes));
  const { sequences, dispose } = caches(device, stream, { count: batch, layers, rows });
  const q = normal(device, stream, [batch, heads, headDim]);
  const out = Tensor.empty(device, 'bfloat16', q.shape);
  const lens = new Int32Array(batch).fill(1);
  const args = Array.from({ length: layers }, (_, layer) => kvBatch(sequences, layer));
  const options = { scale, causal: true, window };
  const call = (i) => ops.attention(stream, out, null, q, args[i], lens, options);
  const shape = `batch ${batch}, ${rows} rows${named(window)}`;
  await bench('attention (decode)', shape, { bytes }, call, layers);
  for (const tensor of [q, out]) tensor.dispose();
  dispose();
}

const named = (window) => (window === 0 ? '' : `, window ${window}`);

/** What SnapKV does to a layer after a prompt: score, choose, gather. */
async function signals({ device, stream, bench }, rows) {
  const [window, kept] = [32, Math.min(1024, rows - 32)];
  const { sequences, dispose } = caches(device, stream, { rows });
  const [sequence] = sequences;
  const q = normal(device, stream, [window, heads, headDim]);
  const scores = Tensor.empty(device, 'float32', [kvHeads, rows]);
  const chosen = Tensor.empty(device, 'int32', [kvHeads, kept]);
  const options = { scale, reduce: 'mean' };
  // The keys are read twice: once for the sums of the softmax, once for the scores.
  await bench('observe_scores', `${window} queries, ${rows} rows`, { bytes: rows * rowBytes }, () =>
    ops.observeScores(stream, scores, q, sequence.kv(0), options),
  );
  await bench('topk', `${kept} of ${kvHeads} × ${rows}`, { bytes: scores.byteLength }, () =>
    ops.topk(stream, chosen, scores, { k: kept }),
  );
  for (const tensor of [q, scores, chosen]) tensor.dispose();
  dispose();
}
