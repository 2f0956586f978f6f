import type { DType, Stream } from '@accel/kernels';

/** GPU kernels that run only when a faster one could not, and why that is. */
const SLOW_KERNELS: Readonly<Record<string, string>> = {
  gemm_mma: 'matrix products ran on the own kernel, because cuBLASLt could not be used',
  gemm_simt: 'matrix products ran on the plain kernel, because no fast one takes their shapes',
  attention_reference:
    'attention ran on the reference kernel, because no fast one takes this head dimension',
};

/**
 * What ran slower than it should have, in words. float32 has one kernel for each op on a GPU, so nothing of it counts.
 * @param kernels of a receipt: kernel name → runs
 * @param decodeTokens decode steps of the same receipt
 * @param slowKernels those of the format that rows are stored in, and of the prefill part
 */
export function findFallbacks(
  stream: Stream,
  dtype: DType,
  kernels: Readonly<Record<string, number>>,
  decodeTokens: number,
  slowKernels: Readonly<Record<string, string>> = {},
): string[] {
  if (stream.device.kind === 'cpu') return [];
  const slow =
    dtype === 'float32'
      ? []
      : Object.entries({ ...SLOW_KERNELS, ...slowKernels })
          .filter(([kernel]) => (kernels[kernel] ?? 0) > 0)
          .map(([, reason]) => reason);
  // A step of a new shape runs twice before it is replayed, and one that copies shared pages never is: that is no fault.
  const { reason } = stream.graphs();
  const replayed = (kernels['graph'] ?? 0) > 0;
  if (reason === undefined || replayed || decodeTokens <= 2) return slow;
  return [...slow, `decode steps ran kernel by kernel, because ${reason}`];
}
