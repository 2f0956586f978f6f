import { expect } from 'vitest';
import {
  encodeBatch,
  loadOpLibrary,
  ops,
  Tensor,
  type KvEncodeRule,
  type KvEncodeRules,
  type KvItems,
  type KvSequence,
  type Op,
} from '../../ts/index.js';
import { Mirror, type Bench } from './kv-model.js';
import { fixture } from './paths.js';

/** Ops of the fixture library that copy plain rows into items, and read rows of both forms. */
export const pack = (): Op => loadOpLibrary(fixture('accel_test_ops')).op('pack');
const unpack = (): Op => loadOpLibrary(fixture('accel_test_ops')).op('unpack');

/** Encoded rows of a head. */
export interface Encoded {
  readonly keys: number;
  readonly values: number;
}

/** A {@link Mirror} whose oldest rows get encoded; all heads of a layer have the same number of rows then. */
export class EncodedMirror extends Mirror {
  /** By layer; undefined while nothing was ever encoded there. */
  readonly encoded: (Encoded | undefined)[];
  /** What is in the headers of keys, by layer; undefined when nobody wrote there. */
  readonly marks: (number | undefined)[];

  constructor(bench: Bench, from?: { kv: KvSequence; mirror: EncodedMirror }) {
    const { layers } = bench.geometry;
    super(
      bench,
      from?.kv,
      from?.mirror.rows.map((layer) => layer.map((head) => [...head])),
    );
    this.encoded = from?.mirror.encoded.slice() ?? new Array<undefined>(layers).fill(undefined);
    this.marks = from?.mirror.marks.slice() ?? new Array<undefined>(layers).fill(undefined);
  }

  override fork(): EncodedMirror {
    return new EncodedMirror(this.bench, { kv: this.kv.fork(), mirror: this });
  }

  /**
   * Encodes by these rules, here and in other caches with one op, which marks the headers if it is the first and for one layer.
   * @returns the most rows that a head had to encode
   */
  encode(
    layers: number | readonly number[],
    rules: KvEncodeRules,
    others: readonly EncodedMirror[] = [],
  ): number {
    const { stream } = this.bench;
    const all = [this, ...others];
    const first =
      typeof layers === 'number' && all.every(({ encoded }) => encoded[layers] === undefined);
    const mark = first ? layers + 7 : -1;
    let most = -1;
    encodeBatch(
      all.map(({ kv }) => kv),
      layers,
      rules,
      (kv, rows) => {
        most = rows;
        stream.run(pack(), kv, mark);
      },
    );
    for (const mirror of all) for (const layer of [layers].flat()) mirror.#note(layer, rules, mark);
    return most;
  }

  #note(layer: number, { keys, values }: KvEncodeRules, mark: number): void {
    const rows = this.layer(layer)[0]?.length ?? 0;
    const now = this.encoded[layer] ?? { keys: 0, values: 0 };
    const due = (rule: KvEncodeRule | undefined, before: number): number =>
      rule === undefined
        ? before
        : Math.max(before, Math.floor(Math.max(0, rows - rule.keep) / rule.block) * rule.block);
    this.encoded[layer] = { keys: due(keys, now.keys), values: due(values, now.values) };
    if (mark >= 0) this.marks[layer] = mark;
  }

  override check(): () => Promise<void> {
    const { device, stream, geometry } = this.bench;
    const { heads } = geometry;
    expect(this.kv.bytes().pages, 'pages').toBe(this.pages());
    const size = (geometry.encoded?.keys?.header ?? 0) / 4;
    const headers = this.encoded.map((encoded, layer) => {
      for (let head = 0; head < heads; head++) {
        expect(this.kv.encodedRows(layer, head)).toEqual(encoded ?? { keys: 0, values: 0 });
      }
      const mark = this.marks[layer];
      if (mark === undefined || size === 0) return undefined;
      using header = Tensor.empty(device, 'int32', [heads, size]);
      const most = Math.max(1, this.kv.rows(layer, 0));
      using rows = Tensor.empty(device, geometry.dtype, [heads, most, geometry.headDim]);
      stream.run(unpack(), rows, rows, header, this.kv.kv(layer));
      const want = new Array<number>(heads * size).fill(mark);
      return { want, got: header.read(stream) };
    });
    const rows = super.check();
    return async () => {
      await rows();
      for (const header of headers) {
        if (header !== undefined) expect([...(await header.got)]).toEqual(header.want);
      }
    };
  }

  protected override read(layer: number, k: Tensor, v: Tensor, positions: Tensor): void {
    const { stream } = this.bench;
    ops.kvRead(stream, null, null, positions, this.kv.kv(layer));
    stream.run(unpack(), k, v, null, this.kv.kv(layer));
  }

  override arithmetic(): number {
    return this.#sum((rows, encoded) => {
      const { keys, values } = encoded ?? { keys: 0, values: 0 };
      const { encoded: layout = {} } = this.bench.geometry;
      const share = (items: KvItems | undefined, count: number): number =>
        items === undefined || encoded === undefined
          ? 0
          : (items.header ?? 0) + Math.floor((count * items.bytes) / items.rows);
      return (
        (2 * rows - keys - values) * this.#rowBytes +
        rows * this.#recordBytes +
        share(layout.keys, keys) +
        share(layout.values, values)
      );
    });
  }

  /** Pages it must have: of plain rows from the first plain one on, of items and headers, of records. There is no gap. */
  pages(): number {
    const { pageBytes, encoded: layout = {} } = this.bench.geometry;
    const perPage = Math.floor(pageBytes / this.#rowBytes);
    const perRecord = Math.floor(pageBytes / this.#recordBytes);
    return this.#sum((rows, encoded) => {
      const { keys, values } = encoded ?? { keys: 0, values: 0 };
      const plain = (from: number): number =>
        Math.ceil(rows / perPage) - Math.floor(from / perPage);
      const stream = (items: KvItems | undefined, count: number): number =>
        items === undefined || encoded === undefined
          ? 0
          : Math.ceil(
              ((items.header ?? 0) + Math.ceil(count / items.rows) * items.bytes) / pageBytes,
            );
      return (
        plain(keys) +
        plain(values) +
        (this.#recordBytes === 0 ? 0 : Math.ceil(rows / perRecord)) +
        stream(layout.keys, keys) +
        stream(layout.values, values)
      );
    });
  }

  #sum(of: (rows: number, encoded: Encoded | undefined) => number): number {
    return this.rows.reduce(
      (sum, heads, layer) =>
        sum + heads.reduce((all, { length }) => all + of(length, this.encoded[layer]), 0),
      0,
    );
  }

  get #rowBytes(): number {
    const { headDim, dtype } = this.bench.geometry;
    return headDim * (dtype === 'float32' ? 4 : 2);
  }

  get #recordBytes(): number {
    const { positions = 'stored', tallies = 0 } = this.bench.geometry;
    return positions === 'stored' ? 4 * (1 + tallies) : 0;
  }
}
