import { createHash } from 'node:crypto';
import { AccelError, kvLayerBytes, type Tensor } from '@accel/kernels';
import { throwIfAborted } from '../append.js';
import type { SequenceState } from '../engine/state.js';
import type { Part, Slot } from '../policy/part.js';
import type { Saveable } from '../policy/saved.js';
import { noTokens, type Sequence } from '../sequence.js';
import { describeCache } from './cache.js';
import { NewFile } from './files.js';
import { fingerprint } from './fingerprint.js';
import { encodeHeader, type SavedHeader, type SavedLayer, type SavedPart } from './header.js';
import { payloadPieces, type Piece } from './payload.js';

/** Options of {@link Sequence.save}. */
export interface SaveOptions {
  /** Stops with `ERR_ACCEL_ABORTED`; no file is left behind. */
  signal?: AbortSignal;
  /** Called as bytes are written. */
  onProgress?: (progress: { savedBytes: number; totalBytes: number }) => void;
}

/** @internal Use {@link Sequence.save}. */
export async function saveSequence(
  sequence: Sequence,
  path: string,
  { signal, onProgress }: SaveOptions,
): Promise<void> {
  const { state, lastLogits } = sequence;
  if (lastLogits === undefined) throw noTokens('save');
  throwIfAborted(signal);
  const header = await describe(sequence, lastLogits);
  const totalBytes = header.payload.bytes;
  const blocks = header.layers.map(({ bytes }) => bytes);
  const file = await NewFile.create(path);
  try {
    const hash = createHash('sha256');
    let savedBytes = 0;
    await file.write(encodeHeader(header));
    for await (const bytes of readAhead(payloadPieces(state.kv, blocks, lastLogits))) {
      throwIfAborted(signal);
      hash.update(bytes);
      await file.write(bytes);
      savedBytes += bytes.length;
      onProgress?.({ savedBytes, totalBytes });
    }
    const payload = { bytes: totalBytes, sha256: hash.digest('hex') };
    await file.write(encodeHeader({ ...header, payload }), 0);
    throwIfAborted(signal);
    await file.finish();
  } catch (error) {
    await file.discard();
    throw error;
  }
}

/** Reads pieces in order, each while the one before is being written. */
async function* readAhead(pieces: Iterable<Piece>): AsyncGenerator<Uint8Array, void, undefined> {
  let ahead: Promise<Uint8Array> | undefined;
  for (const piece of pieces) {
    const next = piece.read();
    next.catch(() => undefined); // reported when it is awaited
    if (ahead !== undefined) yield await ahead;
    ahead = next;
  }
  if (ahead !== undefined) yield await ahead;
}

/** The header, with a checksum of the right length that is not known yet. */
async function describe(sequence: Sequence, logits: Tensor): Promise<SavedHeader> {
  const { state, policy, pending = null, counters, model } = sequence;
  const { kv, seen, turn, cuts } = state;
  const parts: Partial<Record<Slot, SavedPart>> = {};
  for (const part of policy.parts) parts[part.slot] = savePart(state, part);
  const layers = Array.from({ length: kv.shape.layers }, (_, layer): SavedLayer => {
    const rows = kv.layerRows(layer);
    return { ...rows, budget: cuts.budget(layer) ?? null, bytes: kvLayerBytes(kv.shape, rows) };
  });
  const bytes = layers.reduce((sum, layer) => sum + layer.bytes, logits.byteLength);
  return {
    model: await fingerprint(model.runtime),
    policy: policy.toJSON(),
    cache: describeCache(state),
    seen,
    turn,
    pending,
    logits: logits.shape[0] ?? 0,
    counters: { ...counters },
    parts,
    layers,
    payload: { bytes, sha256: '0'.repeat(64) },
  };
}

function savePart(state: SequenceState, part: Part): SavedPart {
  const { reports } = state;
  const own = stateOf(state, part.slot);
  if (own !== undefined && own.save === undefined) throw unsaved(part, 'save()');
  if (part.slot === 'channels' && state.channels?.verify === undefined)
    throw unsaved(part, 'verify()');
  return {
    state: own?.save?.() ?? null,
    acted: reports.acted(part),
    notes: reports.notes(part),
  };
}

/** The state of the part in a slot; codecs have none. */
function stateOf(state: SequenceState, slot: Slot): Saveable | undefined {
  switch (slot) {
    case 'prefill':
      return state.chooser;
    case 'select':
      return state.selector;
    case 'budget':
      return state.allocator;
    case 'merge':
      return state.merger;
    case 'channels':
      return state.channels;
    default:
      return undefined;
  }
}

function unsaved({ id, slot }: Part, method: string): AccelError {
  return new AccelError(
    'ERR_ACCEL_POLICY',
    `A sequence with ${id} (slot ${slot}) cannot be saved: its state has no ${method}. Install a version of the method that has it.`,
  );
}
