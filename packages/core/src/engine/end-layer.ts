import { AccelError } from '@accel/kernels';
import { windowOf } from '../config/spec.js';
import type { LayerEnd } from '../policy/layer-end.js';
import type { Part } from '../policy/part.js';
import type { Batch } from './batch.js';
import type { SequenceState } from './state.js';
import { encodePrompt, encodeStep, observeChannels } from './encode.js';
import { tallyPrompt } from './signals.js';

/** Lets the parts of every sequence look at a finished layer: signals, merge, budget, select, channels, codec. */
export function endLayer(batch: Batch, layer: number): void {
  for (const item of batch.items.keys()) {
    if (batch.phase === 'prefill') endPrefill(batch, item, layer);
    else endDecode(batch, item, layer);
  }
}

/** The same for a pass that has come through all layers. */
export function endPass(batch: Batch): void {
  if (batch.phase === 'decode') encodeStep(batch);
}

/** A prompt is done in all layers, and so are the cuts: layers that waited for them are encoded. */
export function endPrompt(batch: Batch): void {
  for (const { state } of batch.items) {
    if (!cutsLater(state)) continue;
    for (let layer = 0; layer < batch.runtime.spec.layers; layer++)
      encodePrompt(batch, state, layer);
  }
}

/** Whether layers may be cut again while later ones are worked on. */
function cutsLater({ allocator }: SequenceState): boolean {
  return allocator?.settle !== undefined;
}

/**
 * What allocators wanted to know of a layer has been computed: they decide, and layers are cut. The engine calls it in
 * order, when the device has finished the layer.
 */
export async function settleLayer(batch: Batch, layer: number): Promise<void> {
  for (const { state } of batch.items) {
    if (!state.cuts.waited(layer)) continue;
    const shares = await state.allocator?.settle?.(layer);
    for (const [cut, allotment] of shares ?? []) state.cuts.give(cut, allotment);
  }
}

function endPrefill(batch: Batch, item: number, layer: number): void {
  const { state } = batch.item(item);
  const { channels } = state.parts;
  if (channels !== undefined)
    withEnd(batch, item, layer, channels, (end) => {
      observeChannels(state, end);
    });
  evictPrefill(batch, item, layer);
  if (!cutsLater(state)) encodePrompt(batch, state, layer);
}

function evictPrefill(batch: Batch, item: number, layer: number): void {
  const { state } = batch.item(item);
  const { parts, selector, allocator, merger } = state;
  tallyPrompt(batch, item, layer);
  if (parts.merge !== undefined)
    withEnd(batch, item, layer, parts.merge, (end) => merger?.prefillEnd?.(end));
  if (selector === undefined || parts.select === undefined) return;
  withEnd(batch, item, layer, parts.select, (end) => {
    if (allocator === undefined || selector.ranking === undefined) selector.prefillEnd(end);
    else shareOut(batch, item, layer, end);
  });
}

/** A budget part says what the layer keeps, now or later; the selector's scores say which rows. */
function shareOut(batch: Batch, item: number, layer: number, end: LayerEnd): void {
  const { state } = batch.item(item);
  const { parts, selector, allocator, cuts } = state;
  const ranking = selector?.ranking;
  const { budget } = parts;
  if (ranking === undefined || allocator === undefined || budget === undefined) return;
  const { rows: average, window } = ranking.capacity(end);
  withEnd(batch, item, layer, budget, (seen) => {
    const allotment = allocator.prefillEnd({ ...seen, average, window });
    if (allotment === undefined) {
      if (allocator.settle === undefined) throw undecided(budget.id, layer);
      cuts.wait(layer);
    }
    if (allotment === undefined || allotment.rows < end.rows) {
      const scores = ranking.score(end);
      if (scores === undefined) return;
      // Reports outlive this call; the observed queries do not.
      const report: LayerEnd['report'] = (done) => {
        end.report(done);
        seen.report(done);
      };
      cuts.open({ ...end, queries: undefined, report }, scores);
    }
    if (allotment !== undefined) cuts.give(layer, allotment);
  });
}

function undecided(id: string, layer: number): AccelError {
  return new AccelError(
    'ERR_ACCEL_POLICY',
    `The budget part ${id} gave layer ${String(layer)} no share and has no settle() to do it later. Return an allotment from prefillEnd().`,
  );
}

function endDecode(batch: Batch, item: number, layer: number): void {
  const { selector, parts } = batch.item(item).state;
  if (selector?.decodeEnd === undefined || parts.select === undefined) return;
  withEnd(batch, item, layer, parts.select, (end) => selector.decodeEnd?.(end));
}

/** Calls `hook` with the layer as a part sees it. */
function withEnd(
  batch: Batch,
  item: number,
  layer: number,
  part: Part & { readonly observe?: number },
  hook: (end: LayerEnd) => void,
): void {
  const { spec, stream } = batch.runtime;
  const { state, tokens } = batch.item(item);
  const { kv, merger, parts } = state;
  const window = batch.window(item);
  const all = window?.shape[0] ?? 0;
  const own = Math.min(part.observe ?? 0, all);
  const queries = own === 0 ? undefined : own === all ? window : window?.slice(all - own, all);
  const end: LayerEnd = {
    layer,
    phase: batch.phase,
    turn: state.turn,
    kv,
    rows: kv.rows(layer, 0),
    appended: tokens.length,
    seen: state.seen + tokens.length,
    queries,
    scale: spec.attentionScale,
    slidingWindow: windowOf(spec, layer),
    stream,
    budget: state.cuts.budget(layer),
    merge:
      merger?.merge === undefined || batch.phase === 'prefill'
        ? undefined
        : (victim) => {
            if (parts.merge === undefined) return;
            withEnd(batch, item, layer, parts.merge, (seen) => merger.merge?.(seen, victim));
          },
    report: (done) => {
      state.reports.record(part, done);
    },
  };
  try {
    hook(end);
  } finally {
    if (queries !== window) queries?.dispose();
  }
}
