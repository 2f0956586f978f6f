import type { Model, Receipt } from '@accel/core';
import { formatBytes, formatCount, formatRate, formatSeconds } from '../format.js';
import type { Colors } from './colors.js';
import { renderTable } from './table.js';

/** A receipt as a small table: the cache layer by layer, then bytes, times and kernels. */
export function renderReceipt(receipt: Receipt, model: Model, colors: Colors): string {
  const rows = receipt.layers.map((layer, index) => [
    String(index),
    range(layer.rowsIn),
    range(layer.rowsKept),
  ]);
  const columns = [
    { title: 'layer', align: 'right' },
    { title: 'rows in', align: 'right' },
    { title: 'rows stored', align: 'right' },
  ] as const;
  const { kv, tokens, seconds } = receipt;
  const share = kv.fullBytes === 0 ? 1 : kv.measuredBytes / kv.fullBytes;
  const facts: string[][] = [
    ['model', `${model.spec.name}, ${model.dtype}, ${model.device.info.id}`],
    ['policy', policyLine(receipt)],
    [
      'KV cache',
      `${formatBytes(kv.measuredBytes)} measured, ${formatBytes(kv.arithmeticBytes)} by arithmetic, ` +
        `${(100 * share).toFixed(1)} % of ${formatBytes(kv.fullBytes)} uncompressed`,
    ],
    ['prefill', timing(tokens.prefill, seconds.prefill)],
    ...blockLines(receipt),
    ['decode', timing(tokens.decode, seconds.decode)],
    [
      'kernels',
      Object.entries(receipt.kernels)
        .sort(([, a], [, b]) => b - a)
        .map(([name, count]) => `${name} ${formatCount(count)}`)
        .join(', '),
    ],
    ['fallbacks', receipt.fallbacks.length === 0 ? 'none' : receipt.fallbacks.join(', ')],
  ];
  const width = Math.max(...facts.map(([name = '']) => name.length));
  const lines = facts.map(([name = '', text = '']) => `${colors.dim(name.padEnd(width))}  ${text}`);
  return `\n${renderTable(columns, rows, colors.bold)}\n${lines.join('\n')}\n`;
}

/** `512`, or `480-544` when heads differ. */
function range(values: readonly number[]): string {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return low === high ? formatCount(low) : `${formatCount(low)}-${formatCount(high)}`;
}

/** What a sparse prefill computed, over all layers and heads. */
function blockLines({ prefill, seconds }: Receipt): string[][] {
  if (prefill === undefined) return [];
  const density = prefill.layers.flatMap((layer) => layer.density);
  const recall = prefill.layers.flatMap((layer) => layer.figures['recall'] ?? []);
  const lines: string[][] = [];
  if (density.length > 0) {
    const share = prefill.estimateSeconds / seconds.prefill;
    lines.push([
      'blocks',
      `${percent(density)} of the causal ones computed, estimated recall ${percent(recall)}, ` +
        `${formatSeconds(prefill.estimateSeconds)} to choose them (${(100 * share).toFixed(1)} % of prefill)`,
    ]);
  }
  for (const [why, tokens] of Object.entries(prefill.dense))
    lines.push(['dense', `${formatCount(tokens)} tokens × layers: ${why}`]);
  return lines;
}

/** `41.2 % (12.0-87.5)`: mean and range of shares. */
function percent(shares: readonly number[]): string {
  const mean = shares.reduce((sum, share) => sum + share, 0) / shares.length;
  const [low, high] = [Math.min(...shares), Math.max(...shares)];
  return `${(100 * mean).toFixed(1)} % (${(100 * low).toFixed(1)}-${(100 * high).toFixed(1)})`;
}

function timing(tokens: number, seconds: number): string {
  if (tokens === 0) return 'no tokens';
  return `${formatCount(tokens)} tokens in ${formatSeconds(seconds)}, ${formatRate(tokens / seconds)} tok/s`;
}

function policyLine(receipt: Receipt): string {
  const { parts } = receipt.policy;
  if (parts.length === 0) return 'full (no method)';
  return parts.map((part) => `${part.id} ${JSON.stringify(part.options)}`).join(' + ');
}
