import type { Prompt } from './selection.js';

/**
 * Votes of the observed queries in double precision, `[kvHeads][prefix]`: what §1 to §5 of the method say, with nothing
 * shared with the kernels.
 */
export function votes(prompt: Prompt, reduce: 'mean' | 'max' | 'sum'): number[][] {
  const { heads, kvHeads, tokens, window } = prompt;
  const group = heads / kvHeads;
  const prefix = tokens - window;
  return Array.from({ length: kvHeads }, (_, kvHead) => {
    const members = Array.from({ length: group }, (_, i) => headVotes(prompt, kvHead * group + i));
    return Array.from({ length: prefix }, (_, column) => {
      const scores = members.map((member) => member[column] ?? 0);
      if (reduce === 'max') return Math.max(...scores);
      return scores.reduce((a, b) => a + b, 0) / (reduce === 'mean' ? group : 1);
    });
  });
}

/** Σ over the window's rows of the causal softmax over all keys. */
function headVotes(
  { queries, keys, heads, kvHeads, tokens, window, dim }: Prompt,
  head: number,
): Float64Array {
  const total = new Float64Array(tokens);
  const kvHead = Math.floor((head * kvHeads) / heads);
  for (let row = 0; row < window; row++) {
    const q = queries.subarray((head * window + row) * dim, (head * window + row + 1) * dim);
    const visible = tokens - window + row + 1;
    const logits = Array.from({ length: visible }, (_, j) => {
      const k = keys.subarray((kvHead * tokens + j) * dim, (kvHead * tokens + j + 1) * dim);
      return q.reduce((sum, x, c) => sum + x * (k[c] ?? 0), 0) / Math.sqrt(dim);
    });
    const most = Math.max(...logits);
    const weights = logits.map((logit) => Math.exp(logit - most));
    const sum = weights.reduce((a, b) => a + b, 0);
    for (const [j, weight] of weights.entries()) total[j] = (total[j] ?? 0) + weight / sum;
  }
  return total;
}
