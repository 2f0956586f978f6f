import { kvLayerBytes, type KvEncodeRule, type KvItems, type KvSequence } from '@accel/kernels';
import { isDeepStrictEqual } from 'node:util';
import type { SequenceState } from '../engine/state.js';
import { damaged, unusable } from './files.js';
import type { SavedCache, SavedHeader, SavedLayer } from './header.js';

/** How a sequence stores rows. */
export function describeCache({ kv, format }: SequenceState): SavedCache {
  const { tallies = 0, positions = 'stored', encoded = {} } = kv.shape;
  const items = (of: KvItems | undefined): SavedCache['keys'] =>
    of === undefined ? null : { rows: of.rows, bytes: of.bytes, header: of.header ?? 0 };
  return {
    tallies,
    positions,
    format: format?.key ?? null,
    keys: items(encoded.keys),
    values: items(encoded.values),
  };
}

/**
 * Checks everything that memory will be taken by: how rows are stored, how many there are, and that their bytes are the rest
 * of the file.
 * @param rest bytes behind the header
 * @throws AccelError `ERR_ACCEL_SAVED_SEQUENCE`
 */
export function checkCache(
  path: string,
  header: SavedHeader,
  state: SequenceState,
  rest: number,
): void {
  const { layers, logits, seen, pending, payload } = header;
  const { spec } = state.runtime;
  const [then, now] = [header.cache, describeCache(state)];
  if (!isDeepStrictEqual(then, now)) {
    throw unusable(
      path,
      `stores rows as ${JSON.stringify(then)}, and the policy does as ${JSON.stringify(now)}`,
    );
  }
  if (layers.length !== spec.layers) {
    throw damaged(path, `has ${layers.length} layers, and the model ${spec.layers}`);
  }
  let bytes = logits * spec.vocabSize * 4;
  for (const [layer, saved] of layers.entries()) {
    const problem = layerProblem(saved, seen, state);
    if (problem !== undefined) throw damaged(path, `has ${problem} in layer ${layer}`);
    bytes += saved.bytes;
  }
  if (logits > seen) throw damaged(path, `has logits of ${logits} positions and has seen ${seen}`);
  if (pending !== null && pending >= spec.vocabSize) {
    throw damaged(path, `waits with token ${pending}, and the model has ${spec.vocabSize}`);
  }
  if (payload.bytes !== bytes || rest !== bytes) {
    throw damaged(
      path,
      `has ${rest} bytes of rows and logits and claims ${payload.bytes}; what it lists takes ${bytes}`,
    );
  }
}

/** Makes room for rows in an empty cache. */
export function restoreRows(kv: KvSequence, layers: readonly SavedLayer[]): void {
  for (const [layer, rows] of layers.entries()) kv.restore(layer, rows);
}

function layerProblem(
  layer: SavedLayer,
  seen: number,
  { kv, format }: SequenceState,
): string | undefined {
  const { rows, encodedKeys, encodedValues } = layer;
  const lists = [rows, encodedKeys, encodedValues];
  if (lists.some((list) => list.length !== kv.shape.heads))
    return `row counts for ${lists.map((list) => list.length).join(', ')} heads`;
  for (const [head, count] of rows.entries()) {
    if (count < 1 || count > seen || (kv.shape.positions === 'implied' && count !== seen))
      return `${count} rows of ${seen} positions`;
    if (!couldBe(encodedKeys[head] ?? 0, count, format?.rules.keys))
      return `${encodedKeys[head] ?? 0} encoded keys in ${count} rows`;
    if (!couldBe(encodedValues[head] ?? 0, count, format?.rules.values))
      return `${encodedValues[head] ?? 0} encoded values in ${count} rows`;
  }
  if (layer.bytes !== kvLayerBytes(kv.shape, layer)) return `a block of ${layer.bytes} bytes`;
  return undefined;
}

/** Whether a rule can lead to so many encoded rows. */
function couldBe(encoded: number, rows: number, rule: KvEncodeRule | undefined): boolean {
  return encoded <= rows && (encoded === 0 || (rule !== undefined && encoded % rule.block === 0));
}
