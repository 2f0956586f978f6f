import { Device, Tensor } from '@accel/kernels';
import { unpackMask } from '@accel/testkit';
import { xattentionSelect } from '../src/ops.js';

/** How one row is chosen from. */
export interface RowRule {
  readonly diagonal: number;
  readonly threshold: number;
  /** The published rule for the first chunk. Default false. */
  readonly first?: boolean;
}

/** Runs `xattention_select`. @param sums `[rows, columns]` @returns mask bytes of the same shape, and the shares kept */
export async function select(
  device: string,
  sums: Float32Array,
  rules: readonly RowRule[],
): Promise<{ mask: Uint8Array; recall: Float32Array }> {
  const rows = rules.length;
  const columns = sums.length / rows;
  const opened = Device.open(device);
  using stream = opened.createStream();
  using mask = Tensor.empty(opened, 'int32', [rows, Math.ceil(columns / 32)]);
  using recall = Tensor.empty(opened, 'float32', [rows]);
  using given = Tensor.from(opened, sums, [rows, columns]);
  const thresholds = Float64Array.from(rules, ({ threshold }) => threshold);
  using shares = Tensor.from(opened, thresholds, [rows]);
  const numbers = rules.flatMap(({ diagonal, first = false }) => [diagonal, first ? 1 : 0]);
  using meta = Tensor.from(opened, Int32Array.from(numbers), [rows, 2]);
  xattentionSelect(stream, mask, recall, given, shares, meta);
  const words = (await mask.read(stream)) as Int32Array;
  return {
    mask: unpackMask(words, rows, 1, columns),
    recall: (await recall.read(stream)) as Float32Array,
  };
}
