import type { DType, KvShape } from '@accel/kernels';
import type { ModelSpec } from '../config/spec.js';
import type { RowFormat } from '../policy/codec.js';
import type { PolicyParts } from './parts.js';

/** What the shape of a cache depends on besides its policy. */
export interface KvFor {
  readonly spec: ModelSpec;
  readonly dtype: DType;
}

/** The codec's format, over the channels that are kept, or the one of the part that drops channels. */
export function rowFormat({ spec, dtype }: KvFor, parts: PolicyParts): RowFormat | undefined {
  const { channels, codec } = parts;
  if (codec === undefined) return channels?.format({ spec, dtype });
  return codec.format({
    spec,
    dtype,
    channels: channels?.kept(spec) ?? spec.headDim,
    header: channels?.header(spec) ?? 0,
    recent: channels?.recent ?? 0,
  });
}

/** How the cache of one sequence stores its rows. */
export function kvShape(
  { spec, dtype }: KvFor,
  parts: PolicyParts,
  format: RowFormat | undefined,
): KvShape {
  return {
    layers: spec.layers,
    heads: spec.kvHeads,
    headDim: spec.headDim,
    dtype,
    tallies: parts.tallies.length,
    // Without a selection no row ever leaves, so a row's number is its position.
    positions: parts.select === undefined ? 'implied' : 'stored',
    ...(format && { encoded: format.items }),
  };
}
