import { KvSequence, kvBatch, loadOpLibrary, ops, type DType, type Op } from '@accel/kernels';
import { fixture } from '../../../../kernels/test/support/paths.js';
import {
  freezePart,
  type Channels,
  type ChannelsPart,
  type CodecPart,
  type ModelSpec,
  type RowFormat,
} from '../../src/index.js';

const op = (name: string): Op => loadOpLibrary(fixture('accel_test_ops')).op(name);

/** What happened, in order: `encode 12` (rows at most), `attend`, `observe 3` (layer), `choose 3 100` (layer, rows). */
export type Log = string[];

/** How the test formats differ. */
export interface IdentityOptions {
  /** Newest rows that stay plain. */
  readonly residual: number;
  /** Keys are encoded so many at a time, values one by one. */
  readonly block: number;
  readonly log?: Log;
  /** Default `'everyStep'`. */
  readonly encodes?: RowFormat['encodes'];
}

/**
 * A codec that stores rows as they are, so that a sequence gets what it would get without: whatever goes wrong with rows,
 * pages or boundaries changes its tokens.
 */
export function identity(options: IdentityOptions): CodecPart<'identity'> {
  return freezePart({
    id: 'identity',
    slot: 'codec',
    needs: [],
    provides: [],
    lossy: true,
    packedRows: 'forbidden',
    residual: options.residual,
    options: { residual: options.residual, block: options.block },
    format: ({ spec, dtype, header }) => identityFormat(options, spec, dtype, header, true),
  } satisfies CodecPart<'identity'>);
}

function identityFormat(
  { residual, block, log = [], encodes = 'everyStep' }: IdentityOptions,
  { headDim, kvHeads }: ModelSpec,
  dtype: DType,
  header: number,
  values: boolean,
): RowFormat {
  const row = headDim * (dtype === 'float32' ? 4 : 2);
  return {
    key: `identity/${residual}/${block}/${header}/${values}`,
    items: {
      keys: { rows: 4, bytes: 4 * row, header },
      ...(values && { values: { rows: 2, bytes: 2 * row } }),
    },
    rules: {
      keys: { block, keep: residual },
      ...(values && { values: { block: 1, keep: residual } }),
    },
    encodes,
    idleRows: residual,
    encode: ({ stream, kv, keys, values }) => {
      log.push(`encode ${Math.max(keys, values)}`);
      stream.run(op('pack'), kv, -1);
    },
    // Attention over a plain copy of everything.
    attend: ({ stream, out, lse, q, kv, lens, scale }) => {
      log.push('attend');
      const [layer = 0] = kv.layers;
      const copies = kv.sequences.map((sequence) => {
        const copy = new KvSequence(sequence.pool, { layers: 1, heads: kvHeads, headDim, dtype });
        copy.reserve(0, sequence.rows(layer, 0));
        stream.run(op('copy_plain'), copy.kv(0), sequence.kv(layer));
        return copy;
      });
      ops.attention(stream, out, lse, q, kvBatch(copies, 0), lens, { scale, causal: true });
      for (const copy of copies) copy.dispose();
    },
  };
}

/** A channels part that keeps all channels and notes what it is asked; headers hold the number of the layer. */
export function marking(options: IdentityOptions): ChannelsPart<'marking', 'observedWindow'> {
  const { residual, block, log = [] } = options;
  const create = (): Channels => ({
    observe: ({ layer, queries }) => log.push(`observe ${layer}: ${queries?.shape[0] ?? 0}`),
    choose: ({ layer, kv, rows, stream }) => {
      log.push(`choose ${layer}: ${rows}`);
      stream.run(op('pack'), kv, layer);
    },
    fork: create,
    dispose: () => undefined,
  });
  return freezePart({
    id: 'marking',
    slot: 'channels',
    needs: ['observedWindow'],
    provides: [],
    lossy: true,
    options: { residual, block },
    pairAligned: true,
    packedRows: 'forbidden',
    observe: 3,
    recent: 0,
    kept: ({ headDim }) => headDim,
    header: () => 32,
    format: ({ spec, dtype }) =>
      identityFormat({ ...options, encodes: 'firstPrompt' }, spec, dtype, 32, false),
    create,
  } satisfies ChannelsPart<'marking', 'observedWindow'>);
}
