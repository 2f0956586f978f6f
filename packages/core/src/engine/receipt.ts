import { findFallbacks } from './fallbacks.js';
import type { Part } from '../policy/part.js';
import type { Receipt } from '../receipt/receipt.js';
import type { Sequence } from '../sequence.js';

/** Sums up what was done to a sequence so far. Counts and bytes are those of now; nothing is waited for. */
export function buildReceipt(sequence: Sequence): Receipt {
  const { model, policy, state, counters } = sequence;
  const { spec } = model;
  const { measured, arithmetic } = state.kv.bytes();
  const heads = Array.from({ length: spec.kvHeads }, (_, head) => head);
  const kernels = kernelsSince(sequence.before.kernels, model.stream.kernels());
  const rowBytes = 2 * spec.headDim * (state.kv.shape.dtype === 'float32' ? 4 : 2);
  const idle = (part: Part): { idleRows?: number } => {
    const encodes = part.slot === 'codec' || part.slot === 'channels';
    if (part.slot === 'prefill') return { idleRows: state.chooser?.idleRows ?? 0 };
    const idleRows = encodes ? state.format?.idleRows : state.selector?.idleRows;
    return idleRows === undefined ? {} : { idleRows };
  };
  return {
    policy: policy.toJSON(),
    parts: policy.parts.map((part) => ({
      id: part.id,
      slot: part.slot,
      acted: state.reports.acted(part),
      ...idle(part),
      ...(part === state.parts.merge && state.parts.merge.at === 'decode'
        ? { when: 'decode' as const }
        : {}),
      notes: state.reports.notes(part),
    })),
    layers: Array.from({ length: spec.layers }, (_, layer) => ({
      rowsIn: heads.map(() => state.seen),
      rowsKept: heads.map((head) => state.kv.rows(layer, head)),
      ...(state.format && {
        encodedKeys: heads.map((head) => state.kv.encodedRows(layer, head).keys),
        encodedValues: heads.map((head) => state.kv.encodedRows(layer, head).values),
      }),
    })),
    ...(state.chooser && { prefill: state.blocks.receipt() }),
    kv: {
      measuredBytes: measured,
      arithmeticBytes: arithmetic,
      fullBytes: state.seen * spec.layers * spec.kvHeads * rowBytes,
    },
    tokens: { prefill: counters.prefillTokens, decode: counters.decodeTokens },
    seconds: { prefill: counters.prefillSeconds, decode: counters.decodeSeconds },
    kernels,
    fallbacks: findFallbacks(
      model.stream,
      model.dtype,
      kernels,
      counters.decodeTokens - sequence.before.decoded,
      { ...state.format?.slowKernels, ...state.chooser?.slowKernels },
    ),
  };
}

function kernelsSince(
  before: Readonly<Record<string, number>>,
  now: Readonly<Record<string, number>>,
): Record<string, number> {
  const entries = Object.entries(now).map(
    ([name, runs]) => [name, runs - (before[name] ?? 0)] as const,
  );
  return Object.fromEntries(entries.filter(([, runs]) => runs > 0));
}
