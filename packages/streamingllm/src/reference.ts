/** Attention over a set of keys, in JavaScript memory. */
export interface ReferencePartial {
  /** `[rows, dim]` */
  readonly out: Float32Array;
  /** `[rows]`; -∞ where the row saw no key. */
  readonly lse: Float32Array;
}

/** `streamingllm_merge` in plain TypeScript, in double precision: what the kernel is tested with. */
export function referenceMerge(
  a: ReferencePartial,
  b: ReferencePartial,
  dim: number,
): ReferencePartial {
  const lse = new Float32Array(a.lse.length);
  const out = new Float32Array(a.out.length);
  for (let row = 0; row < lse.length; row++) {
    const [la, lb] = [a.lse[row] as number, b.lse[row] as number];
    const most = Math.max(la, lb);
    const weights = most === -Infinity ? [0, 0] : [Math.exp(la - most), Math.exp(lb - most)];
    const [wa = 0, wb = 0] = weights;
    const sum = wa + wb;
    lse[row] = most + Math.log(sum);
    if (sum === 0) continue;
    for (let i = row * dim; i < (row + 1) * dim; i++) {
      out[i] = (wa * (a.out[i] as number) + wb * (b.out[i] as number)) / sum;
    }
  }
  return { out, lse };
}
