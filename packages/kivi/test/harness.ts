import type { RowFormat } from '@accel/core';
import { ops, Tensor, toFloat16, type DType, type KvEncodeRules } from '@accel/kernels';
import { readFloats, TestCache } from '@accel/testkit';
import { kiviFormat } from '../src/format.js';
import { layoutFor, type KiviLayout } from '../src/layout.js';
import { kiviRead } from '../src/ops.js';
import { settingsFrom, type KiviOptions } from '../src/settings.js';

/** Sizes of a {@link KiviCache}. */
export interface KiviShape {
  /** Query heads. */
  readonly heads: number;
  readonly kvHeads: number;
  readonly dim: number;
  /** Default `'float32'`. */
  readonly dtype?: DType;
  readonly pageBytes?: number;
  readonly capacityBytes?: number;
  /** Default `'implied'`: no row leaves. */
  readonly positions?: 'stored' | 'implied';
  /** Channels that packed keys keep, by kv head, ascending and equally many. Default: all of them, and no list. */
  readonly kept?: readonly (readonly number[])[] | undefined;
}

/** Packed rows as the authors store them, `[kvHeads, …]`: words, and halves as their bits. */
export interface Packed {
  readonly keyCodes: Uint32Array;
  readonly keyScales: Uint16Array;
  readonly keyMinima: Uint16Array;
  readonly valueCodes: Uint32Array;
  readonly valueScales: Uint16Array;
  readonly valueMinima: Uint16Array;
}

/** One layer's cache in KIVI's format, driven as the engine drives it: append, attend, encode. */
export class KiviCache implements Disposable {
  readonly cache: TestCache;
  readonly shape: KiviShape;
  readonly format: RowFormat;
  readonly layout: KiviLayout;
  readonly #rules: KvEncodeRules;

  /** @param rules instead of the schedule that the options say */
  constructor(device: string, shape: KiviShape, options: KiviOptions, rules?: KvEncodeRules) {
    const { heads, kvHeads, dim, kept, ...cache } = shape;
    this.shape = shape;
    const settings = settingsFrom(options);
    const spec = { heads, kvHeads, headDim: dim };
    const channels = kept?.[0]?.length ?? dim;
    const header = kept === undefined ? 0 : 16 * Math.ceil((2 * channels) / 16);
    this.layout = layoutFor(settings, spec, channels);
    this.format = kiviFormat(settings, { spec, channels, header });
    this.#rules = rules ?? this.format.rules;
    this.cache = new TestCache(device, {
      heads: kvHeads,
      headDim: dim,
      positions: 'implied',
      encoded: this.format.items,
      ...cache,
    });
    if (kept !== undefined) this.#list(kept, header);
  }

  get rows(): number {
    return this.cache.kv.rows(0, 0);
  }

  /** Packed and plain keys, packed and plain values. */
  get lengths(): number[] {
    const { keys, values } = this.cache.kv.encodedRows(0, 0);
    return [keys, this.rows - keys, values, this.rows - values];
  }

  /** Writes the kept channels of all heads into the headers of a cache that is still empty. */
  #list(kept: readonly (readonly number[])[], header: number): void {
    const { device, kv, stream } = this.cache;
    const bytes = new Uint8Array(kept.length * header);
    const view = new DataView(bytes.buffer);
    for (const [head, channels] of kept.entries()) {
      for (const [i, channel] of channels.entries())
        view.setUint16(head * header + 2 * i, channel, true);
    }
    // Makes the headers; there is nothing to pack.
    kv.encode(0, this.#rules, () => undefined);
    using block = Tensor.from(device, bytes, [bytes.length]);
    ops.kvImport(stream, kv.kv(0), block);
  }

  /** Appends `[m, kvHeads, dim]` rows. */
  append(k: Float32Array, v: Float32Array): void {
    this.cache.append(k, v, this.rows);
  }

  /** Packs what is due. */
  encode(): void {
    const { kv, stream } = this.cache;
    kv.encode(0, this.#rules, (args, most) => {
      if (most > 0) this.format.encode({ stream, kv: args, keys: most, values: most });
    });
  }

  /** Attention of the newest rows. @param q `[m, heads, dim]` @param window in positions; 0: no limit */
  async attend(q: Float32Array, window = 0): Promise<{ out: Float32Array; lse: Float32Array }> {
    const { cache, shape } = this;
    const { heads, dim } = shape;
    const m = q.length / (heads * dim);
    using query = cache.floats(q, [m, heads, dim]);
    using out = cache.empty([m, heads, dim]);
    using lse = Tensor.empty(cache.device, 'float32', [m, heads]);
    this.format.attend({
      stream: cache.stream,
      out,
      lse,
      q: query,
      kv: cache.kv.kv(0),
      lens: Int32Array.of(m),
      scale: 1 / Math.sqrt(dim),
      window,
    });
    return {
      out: await readFloats(out, cache.stream),
      lse: await readFloats(lse, cache.stream),
    };
  }

  async read(): Promise<Packed> {
    const { cache, layout, shape } = this;
    const { kvHeads, dim } = shape;
    const { keyBits, valueBits, group, channels } = layout;
    const { keys, values } = cache.kv.encodedRows(0, 0);
    const tensors = {
      keyCodes: [kvHeads, channels, (keys * keyBits) / 32],
      keyScales: [kvHeads, channels, keys / group],
      keyMinima: [kvHeads, channels, keys / group],
      valueCodes: [kvHeads, values, (dim * valueBits) / 32],
      valueScales: [kvHeads, values, dim / group],
      valueMinima: [kvHeads, values, dim / group],
    };
    const out = Object.fromEntries(
      Object.entries(tensors).map(([name, of]) => {
        const dtype = name.endsWith('Codes') ? 'int32' : 'float16';
        return [name, Tensor.empty(cache.device, dtype, of)];
      }),
    ) as Record<keyof Packed, Tensor>;
    kiviRead(cache.stream, out, cache.kv.kv(0), layout);
    const read = async (tensor: Tensor): Promise<Float32Array | Int32Array> => {
      using done = tensor;
      return (await done.read(cache.stream)) as Float32Array | Int32Array;
    };
    const words = async (tensor: Tensor): Promise<Uint32Array> =>
      new Uint32Array((await read(tensor)).buffer);
    const halves = async (tensor: Tensor): Promise<Uint16Array> =>
      toFloat16((await read(tensor)) as Float32Array);
    return {
      keyCodes: await words(out.keyCodes),
      keyScales: await halves(out.keyScales),
      keyMinima: await halves(out.keyMinima),
      valueCodes: await words(out.valueCodes),
      valueScales: await halves(out.valueScales),
      valueMinima: await halves(out.valueMinima),
    };
  }

  dispose(): void {
    this.cache.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
