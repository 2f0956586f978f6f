import { encodeBatch } from '@accel/kernels';
import type { LayerEnd } from '../policy/layer-end.js';
import type { RowFormat } from '../policy/codec.js';
import type { Batch } from './batch.js';
import type { SequenceState } from './state.js';

/** A part that drops channels looks at a layer of the first prompt, before or after rows have left. */
export function observeChannels(state: SequenceState, end: LayerEnd): void {
  if (state.turn === 0) state.channels?.observe(end);
}

/**
 * Encodes what a sequence's format wants encoded of a layer, when nothing of the prompt will leave it any more.
 * Dropping channels comes first: keys are encoded without them.
 */
export function encodePrompt(batch: Batch, state: SequenceState, layer: number): void {
  const { format, kv, channels, parts, turn } = state;
  if (format === undefined || (turn > 0 && format.encodes === 'firstPrompt')) return;
  const { stream } = batch.runtime;
  const before = kv.encodedRows(layer, 0);
  kv.encode(layer, format.rules, (args, most, due) => {
    const { keys } = kv.encodedRows(layer, 0);
    if (channels !== undefined && turn === 0) {
      // With a codec the keys that it takes are scored, as published; if there are none yet, all of them.
      const rows = parts.codec === undefined || keys === 0 ? kv.rows(layer, 0) : keys;
      channels.choose({ layer, stream, kv: args, rows });
    }
    if (most > 0) format.encode({ stream, kv: args, ...due });
  });
  report(state, layer, before);
}

/**
 * Encodes rows that have become old enough in a decode step, in all layers with one op: there is little to do in each. The
 * op is enqueued in every step, also when no row is due: so a step can be replayed, and the sequences of a batch need not be
 * in step.
 */
export function encodeStep(batch: Batch): void {
  const groups = new Map<string, { format: RowFormat; states: SequenceState[] }>();
  for (const { state } of batch.items) {
    const { format } = state;
    if (format?.encodes !== 'everyStep') continue;
    const group = groups.get(state.rowsKey);
    if (group === undefined) groups.set(state.rowsKey, { format, states: [state] });
    else group.states.push(state);
  }
  const { stream, spec } = batch.runtime;
  const layers = Array.from({ length: spec.layers }, (_, layer) => layer);
  for (const { format, states } of groups.values()) {
    const { keys, values } = format.rules;
    const caches = states.map(({ kv }) => kv);
    const before = caches.map((kv) => layers.map((layer) => kv.encodedRows(layer, 0)));
    encodeBatch(caches, layers, format.rules, (kv, _, due) => {
      // A block at a time is what steps make due: the same numbers in every step, so that it can be replayed.
      format.encode({
        stream,
        kv,
        keys: Math.max(keys?.block ?? 0, due.keys),
        values: Math.max(values?.block ?? 0, due.values),
      });
    });
    for (const [i, state] of states.entries())
      for (const layer of layers) report(state, layer, before[i]?.[layer]);
  }
}

/** Notes which parts changed the format of rows, when more are encoded than before. */
function report(
  { kv, parts, reports }: SequenceState,
  layer: number,
  before = { keys: 0, values: 0 },
): void {
  const { keys, values } = kv.encodedRows(layer, 0);
  const codec = keys > before.keys || values > before.values;
  if (codec && parts.codec !== undefined) reports.act(parts.codec);
  if (keys > before.keys && parts.channels !== undefined) reports.act(parts.channels);
}
