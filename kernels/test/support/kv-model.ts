import { expect } from 'vitest';
import {
  Device,
  kvBatch,
  KvSequence,
  ops,
  PagePool,
  Tensor,
  type KvShape,
  type Stream,
} from '../../ts/index.js';

/** Geometry of a test cache: small pages, so that few rows fill many of them. */
export interface Geometry extends KvShape {
  readonly pageBytes: number;
}

export interface Bench {
  readonly device: Device;
  readonly stream: Stream;
  readonly pool: PagePool;
  readonly geometry: Geometry;
}

export function makeBench(geometry: Geometry, pages = 4096, on = 'cpu'): Bench {
  const device = Device.open(on);
  const stream = device.createStream();
  const pool = new PagePool(stream, {
    pageBytes: geometry.pageBytes,
    capacityBytes: pages * geometry.pageBytes,
  });
  return { device, stream, pool, geometry };
}

/** What a row of token `token` holds; exact in bfloat16 and float16 for tokens below 256. */
function rowValue(token: number, head: number): number {
  return (token % 256) - 128 * head;
}

/**
 * A cache together with what it should hold: `rows[layer][head]` lists tokens. Positions are the token numbers, or the row
 * numbers where they are implied.
 */
export class Mirror {
  readonly bench: Bench;
  readonly kv: KvSequence;
  rows: number[][][];

  constructor(bench: Bench, kv?: KvSequence, rows?: number[][][]) {
    const { layers, heads } = bench.geometry;
    this.bench = bench;
    this.kv = kv ?? new KvSequence(bench.pool, bench.geometry);
    this.rows =
      rows ?? Array.from({ length: layers }, () => Array.from({ length: heads }, () => []));
  }

  fork(): Mirror {
    const rows = this.rows.map((layer) => layer.map((head) => [...head]));
    return new Mirror(this.bench, this.kv.fork(), rows);
  }

  layer(layer: number): number[][] {
    const rows = this.rows[layer];
    if (rows === undefined) throw new RangeError(`layer ${layer}`);
    return rows;
  }

  append(layer: number, tokens: readonly number[]): void {
    this.kv.reserve(layer, tokens.length);
    appendBatch(this.bench, layer, [{ mirror: this, tokens }]);
  }

  /** Keeps `keep(head, rows)` of every head. */
  compact(layer: number, kept: readonly (readonly number[])[]): void {
    const { device } = this.bench;
    const most = Math.max(1, ...kept.map((rows) => rows.length));
    const index = new Int32Array(kept.length * most).fill(-1);
    kept.forEach((rows, head) => index.set(rows, head * most));
    using tensor = Tensor.from(device, index, [kept.length, most]);
    this.kv.compact(
      layer,
      tensor,
      kept.map((rows) => rows.length),
    );
    this.rows[layer] = this.layer(layer).map((rows, head) =>
      (kept[head] ?? []).map((row) => rows[row] ?? -1),
    );
  }

  drop(layer: number, at: number, count: number): void {
    this.kv.drop(layer, at, count);
    for (const rows of this.layer(layer)) rows.splice(at, count);
  }

  truncate(layer: number, count: number): void {
    this.kv.truncate(layer, count);
    for (const rows of this.layer(layer)) rows.length = count;
  }

  /** Enqueues reading everything now; the result compares with what should be there now. */
  check(): () => Promise<void> {
    const { device, stream, geometry } = this.bench;
    const { heads, headDim, dtype } = geometry;
    const waits: (() => Promise<void>)[] = [];
    for (let layer = 0; layer < geometry.layers; layer++) {
      const want = this.layer(layer).map((rows) => [...rows]);
      expect(want.map((_, head) => this.kv.rows(layer, head))).toEqual(
        want.map((rows) => rows.length),
      );
      const most = Math.max(1, ...want.map((rows) => rows.length));
      const positions = Tensor.empty(device, 'int32', [heads, most]);
      const k = Tensor.empty(device, dtype, [heads, most, headDim]);
      const v = Tensor.empty(device, dtype, [heads, most, headDim]);
      this.read(layer, k, v, positions);
      const reads = Promise.all([positions.read(stream), k.read(stream), v.read(stream)]);
      for (const tensor of [positions, k, v]) tensor.dispose();
      waits.push(async () => {
        const [gotPositions, gotK, gotV] = await reads;
        want.forEach((rows, head) => {
          const all = Array.from({ length: most }, (_, row) => rows[row]);
          const at = head * most;
          const implied = geometry.positions === 'implied';
          const position = (token: number | undefined, row: number): number =>
            token === undefined ? -1 : implied ? row : token;
          expect([...gotPositions.slice(at, at + most)]).toEqual(all.map(position));
          const value = (token: number | undefined): number =>
            token === undefined ? 0 : rowValue(token, head);
          const column = (got: ArrayLike<number>, c: number): number[] =>
            all.map((_, row) => got[(at + row) * headDim + c] ?? NaN);
          expect(column(gotK, 0)).toEqual(all.map(value));
          expect(column(gotK, headDim - 1)).toEqual(all.map(value));
          expect(column(gotV, headDim - 1)).toEqual(all.map((token) => 0 - value(token)));
        });
      });
    }
    return async () => {
      for (const wait of waits) await wait();
    };
  }

  /** Enqueues reading all rows of a layer. */
  protected read(layer: number, k: Tensor, v: Tensor, positions: Tensor): void {
    ops.kvRead(this.bench.stream, k, v, positions, this.kv.kv(layer));
  }

  /** Rows × bytes of a row, over all layers and heads. */
  arithmetic(): number {
    const { headDim, dtype, tallies = 0, positions = 'stored' } = this.bench.geometry;
    const record = positions === 'stored' ? 4 * (1 + tallies) : 0;
    const bytes = 2 * headDim * (dtype === 'float32' ? 4 : 2) + record;
    return this.rows.flat().reduce((sum, rows) => sum + rows.length * bytes, 0);
  }
}

/** Writes the last rows of several caches in one op; room is there already. */
export function appendBatch(
  bench: Bench,
  layer: number,
  parts: readonly { mirror: Mirror; tokens: readonly number[] }[],
): void {
  const { device, stream, geometry } = bench;
  const { heads, headDim, dtype } = geometry;
  const tokens = parts.flatMap((part) => part.tokens);
  const data = new Float32Array(tokens.length * heads * headDim);
  tokens.forEach((token, t) => {
    for (let head = 0; head < heads; head++) {
      data.fill(
        rowValue(token, head),
        (t * heads + head) * headDim,
        (t * heads + head + 1) * headDim,
      );
    }
  });
  const shape = [tokens.length, heads, headDim];
  using k = Tensor.from(device, data, shape, dtype);
  using v = Tensor.from(
    device,
    data.map((value) => 0 - value),
    shape,
    dtype,
  );
  using positions = Tensor.from(device, Int32Array.from(tokens), [tokens.length]);
  ops.kvAppend(
    stream,
    kvBatch(
      parts.map((part) => part.mirror.kv),
      layer,
    ),
    k,
    v,
    positions,
    Int32Array.from(parts.map((part) => part.tokens.length)),
  );
  for (const { mirror, tokens: own } of parts) {
    for (const rows of mirror.layer(layer)) rows.push(...own);
  }
}
