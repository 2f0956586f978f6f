import { AccelError } from '@accel/kernels';
import type { PartReceipt, Receipt } from './receipt.js';

/**
 * Strict mode: "configured" must mean "happened". A part that never acted although a head was given more rows than it
 * may idle on, or any fallback, is an error.
 * @throws AccelError `ERR_ACCEL_STRICT` naming the parts and fallbacks
 */
export function assertStrict(receipt: Receipt): void {
  const most = (key: 'rowsIn' | 'rowsKept'): number =>
    Math.max(0, ...receipt.layers.flatMap((layer) => layer[key]));
  // Formats are for the rows that a selection has left.
  const rowsFor = ({ slot }: PartReceipt): number =>
    most(slot === 'codec' || slot === 'channels' ? 'rowsKept' : 'rowsIn');
  const idle = receipt.parts.filter(
    (part) =>
      part.acted === 0 &&
      rowsFor(part) > (part.idleRows ?? 0) &&
      (part.when === undefined || receipt.tokens.decode > 0),
  );
  const problems = [
    ...idle.map(
      (part) =>
        `${part.id} never acted on ${rowsFor(part)} rows${part.idleRows === undefined ? '' : ` (it may idle up to ${part.idleRows})`}`,
    ),
    ...receipt.fallbacks.map((fallback) => `fallback: ${fallback}`),
  ];
  if (problems.length === 0) return;
  throw new AccelError(
    'ERR_ACCEL_STRICT',
    `Strict mode: ${problems.join('; ')}. Use a longer prompt or another configuration, or turn strict mode off.`,
  );
}
