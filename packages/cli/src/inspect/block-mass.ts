import { BLOCK, type BlockCall } from '@accel/core';
import { ops, Tensor } from '@accel/kernels';

/**
 * Where the attention of a call's queries lies, computed densely: one more attention and the block sums of its
 * probabilities. Enqueues and returns.
 *
 * @returns float32 `[heads, ⌈m / 128⌉, ⌈rows / 128⌉]`, the caller's to dispose
 */
export function measureBlockMass(call: BlockCall): Tensor {
  const { stream, q, kv, m, rows, scale } = call;
  const [, heads = 0] = q.shape;
  using attended = Tensor.empty(q.device, q.dtype, q.shape);
  using lse = Tensor.empty(q.device, 'float32', [m, heads]);
  const mass = Tensor.empty(q.device, 'float32', [heads, blocksOf(m), blocksOf(rows)]);
  ops.attention(stream, attended, lse, q, kv, Int32Array.of(m), { scale, causal: true });
  ops.blockMass(stream, mass, q, kv, lse, { scale });
  return mass;
}

/** Blocks that so many rows make; the last may be short. */
export function blocksOf(rows: number): number {
  return Math.ceil(rows / BLOCK);
}

/** A copy that stays when the engine reuses the tensor, made on the stream. The caller's to dispose. */
export function keep(call: BlockCall, tensor: Tensor): Tensor {
  const copy = Tensor.empty(tensor.device, tensor.dtype, tensor.shape);
  const [rows = 0] = tensor.shape;
  ops.gatherRows(
    call.stream,
    copy,
    tensor,
    Int32Array.from({ length: rows }, (_, row) => row),
  );
  return copy;
}
