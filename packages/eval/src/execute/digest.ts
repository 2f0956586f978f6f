import type { Receipt } from '@accel/core';
import type { ReceiptDigest } from './types.js';

/**
 * The part of the engine's account that goes into a record.
 *
 * @param prefilled when the first prompt had been read and compressed: rows and bytes are of then
 * @param end after the last answer: what acted, fallbacks and kernels of the whole
 */
export function digestReceipt(prefilled: Receipt, end: Receipt): ReceiptDigest {
  const { measuredBytes, arithmeticBytes, fullBytes } = prefilled.kv;
  const layerRows = prefilled.layers.map((layer) => mean(layer.rowsKept));
  const densities = (prefilled.prefill?.layers ?? []).flatMap(({ density }) => density);
  return {
    rowsIn: mean(prefilled.layers.flatMap((layer) => layer.rowsIn)),
    rowsStored: mean(prefilled.layers.flatMap((layer) => layer.rowsKept)),
    layerRows,
    kv: { measuredBytes, arithmeticBytes, fullBytes },
    ...(densities.length > 0 && { density: mean(densities) }),
    acted: Object.fromEntries(end.parts.map(({ id, slot, acted }) => [`${id}.${slot}`, acted])),
    fallbacks: end.fallbacks,
    kernels: end.kernels,
  };
}

function mean(values: readonly number[]): number {
  return values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length;
}
