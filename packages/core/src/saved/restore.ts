import { createHash } from 'node:crypto';
import { ops, Tensor } from '@accel/kernels';
import { throwIfAborted } from '../append.js';
import { PolicyParts } from '../engine/parts.js';
import { SequenceState } from '../engine/state.js';
import type { Model } from '../model.js';
import type { Policy } from '../policy/compose.js';
import type { Method } from '../policy/method.js';
import type { JsonValue, Slot } from '../policy/part.js';
import { Sequence } from '../sequence.js';
import { checkCache, restoreRows } from './cache.js';
import { damaged, OldFile, unusable } from './files.js';
import { difference, fingerprint } from './fingerprint.js';
import { readHeader, type SavedHeader } from './header.js';
import { keyHeaders } from './key-headers.js';
import { payloadPieces } from './payload.js';
import { policyOf } from './policy.js';

/** Options of {@link Model.restore}. */
export interface RestoreOptions {
  /** The policy that the sequence was saved with; another one is an error. */
  policy?: Policy;
  /** Makes the policy from the file instead, out of these methods. One of the two is needed unless the policy was empty. */
  methods?: Iterable<Method>;
  /** As in {@link Model.sequence}. Default false. */
  strict?: boolean;
  /** Stops with `ERR_ACCEL_ABORTED`. */
  signal?: AbortSignal;
  /** Called as bytes reach the device. */
  onProgress?: (progress: { loadedBytes: number; totalBytes: number }) => void;
}

/** @internal Use {@link Model.restore}. */
export async function restoreSequence(
  model: Model,
  path: string,
  options: RestoreOptions,
): Promise<Sequence> {
  const { runtime } = model;
  throwIfAborted(options.signal);
  const file = await OldFile.open(path);
  try {
    const header = await readHeader(file);
    const other = difference(header.model, await fingerprint(runtime));
    if (other !== undefined) throw unusable(path, `belongs to another model: ${other}`);
    const policy = policyOf(path, header.policy, options);
    const state = restoreState(path, header, new PolicyParts(policy), model);
    let logits: Tensor | undefined;
    try {
      checkCache(path, header, state, file.rest);
      restoreRows(state.kv, header.layers);
      logits = Tensor.empty(runtime.device, 'float32', [header.logits, runtime.spec.vocabSize]);
      await readPayload(file, header, state, logits, options);
      await verify(path, header, state);
    } catch (error) {
      await runtime.stream.synchronize().catch(() => undefined);
      logits?.dispose();
      state.dispose();
      throw error;
    }
    const { strict = false } = options;
    const sequence = new Sequence(model, { policy, strict }, state, { ...header.counters });
    sequence.lastLogits = logits;
    sequence.pending = header.pending ?? undefined;
    return sequence;
  } finally {
    await file.close();
  }
}

/** The state of a sequence without its rows. */
function restoreState(
  path: string,
  { parts: saved, layers, seen, turn }: SavedHeader,
  parts: PolicyParts,
  { runtime }: Model,
): SequenceState {
  const states: Partial<Record<Slot, JsonValue>> = {};
  for (const part of parts.all) {
    const { state } = saved[part.slot] ?? missing(path, part.id);
    // Nothing to remember is what a new state begins with.
    if (state !== null) states[part.slot] = state;
  }
  const state = SequenceState.create(runtime, parts, states);
  for (const part of parts.all) {
    const { acted, notes } = saved[part.slot] ?? missing(path, part.id);
    state.reports.restore(part, acted, notes);
  }
  for (const [layer, { budget }] of layers.entries()) {
    if (budget !== null) state.cuts.restore(layer, budget);
  }
  state.seen = seen;
  state.turn = turn;
  return state;
}

function missing(path: string, id: string): never {
  throw damaged(path, `says nothing about ${id}, which is in its policy`);
}

/** Brings rows and logits to the device, and compares the checksum at the end. Until then they are bytes that nobody reads. */
async function readPayload(
  file: OldFile,
  { layers, payload }: SavedHeader,
  { kv, runtime: { stream } }: SequenceState,
  logits: Tensor,
  { signal, onProgress }: RestoreOptions,
): Promise<void> {
  const hash = createHash('sha256');
  const blocks = layers.map(({ bytes }) => bytes);
  let loadedBytes = 0;
  let running = Promise.resolve();
  for (const piece of payloadPieces(kv, blocks, logits)) {
    throwIfAborted(signal);
    const bytes = await file.read(piece.bytes);
    hash.update(bytes);
    await running;
    piece.write(bytes);
    running = stream.synchronize();
    running.catch(() => undefined); // reported when it is awaited
    loadedBytes += bytes.length;
    onProgress?.({ loadedBytes, totalBytes: payload.bytes });
  }
  await running;
  if (hash.digest('hex') !== payload.sha256) {
    throw damaged(file.path, 'has rows that do not have their checksum');
  }
}

/** A checksum does not tell who wrote a file: looks at what ops trust. */
async function verify(path: string, { seen }: SavedHeader, state: SequenceState): Promise<void> {
  const { kv, channels, runtime } = state;
  const { stream, spec } = runtime;
  try {
    for (let layer = 0; layer < spec.layers; layer++) {
      ops.kvCheck(stream, kv.kv(layer), seen);
    }
    await stream.synchronize();
  } catch (error) {
    throw damaged(path, `has rows that cannot be (${(error as Error).message})`, error);
  }
  if (channels === undefined) return;
  for (let layer = 0; layer < spec.layers; layer++) {
    for (const header of await keyHeaders(kv, layer)) {
      const problem = channels.verify?.(header);
      if (problem === undefined) continue;
      throw damaged(path, `has keys in layer ${layer} whose channels cannot be (${problem})`);
    }
  }
}
