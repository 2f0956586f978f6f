import {
  AccelError,
  BLOCK,
  compose,
  type AppendOptions,
  type Model,
  type Part,
  type PrefillPart,
} from '@accel/core';
import type { Stream } from '@accel/kernels';
import { blocksOf } from './block-mass.js';
import { observer } from './observer.js';
import { disposeSightings, probe, type Sighting } from './probe.js';

/** How the queries of a row block attended: over chosen blocks, densely, or in a call too short to be looked at. */
export type RowState = 'chosen' | 'dense' | 'unseen';

/** Row blocks `[first, end)` that attended alike. */
export interface RowSpan {
  readonly first: number;
  readonly end: number;
  readonly state: RowState;
  /** Why not over chosen blocks. */
  readonly reason?: string;
}

/**
 * One query head. Blocks on and below the diagonal lie row by row: block (i, j) has index `i (i + 1) / 2 + j`, see
 * {@link blockIndex}.
 */
export interface HeadMap {
  /** Share of a row block's attention that lies in each block, if all of it were computed; NaN where unseen. */
  readonly mass: Float32Array;
  /** 1 for a block that is computed. */
  readonly computed: Uint8Array;
  /** What follows is over the row blocks whose blocks were chosen; undefined without any. */
  readonly chosen: HeadFigures | undefined;
}

/** Numbers of one head. */
export interface HeadFigures {
  /** Computed blocks of the causal ones, 0 to 1. */
  readonly density: number;
  /** What the method tells, by its own names; `recall` first, the share of attention that it believes it computes. */
  readonly told: readonly number[];
  /** Share of the attention that lies in computed blocks: mean over row blocks, least, and where that is. */
  readonly recall: { readonly mean: number; readonly min: number; readonly minRow: number };
}

/** One layer. */
export interface LayerMap {
  readonly spans: readonly RowSpan[];
  readonly heads: readonly HeadMap[];
}

/** Attention of a prompt in blocks of 128 × 128, everywhere in a model. */
export interface AttentionMap {
  readonly tokens: number;
  /** Row blocks, and columns. */
  readonly blocks: number;
  /** Names of what the method tells. */
  readonly told: readonly string[];
  readonly layers: readonly LayerMap[];
}

/** Place of a block in a triangle of blocks. */
export function blockIndex(i: number, j: number): number {
  return (i * (i + 1)) / 2 + j;
}

/**
 * Reads a prompt and keeps, for each layer and head, which blocks a prefill part chooses and where the attention lies. The
 * model runs with the part, so later layers see what it does to earlier ones.
 *
 * @param part undefined for dense attention
 * @throws AccelError as `Sequence.append` does; `ERR_ACCEL_INTERNAL` when the engine asked the part for nothing
 */
export async function mapAttention(
  model: Model,
  tokens: Int32Array,
  part: PrefillPart | undefined,
  options: Pick<AppendOptions, 'signal' | 'onProgress'> = {},
): Promise<AttentionMap> {
  const sightings: Sighting[] = [];
  const parts: readonly Part[] = [probe(part, sightings), observer(tokens.length)];
  try {
    using sequence = model.sequence({ policy: compose(...parts) });
    await sequence.append(tokens, options);
    const blocks = blocksOf(tokens.length);
    const names = part?.figures ?? ['recall'];
    const layers: LayerMap[] = [];
    for (let layer = 0; layer < model.spec.layers; layer++) {
      const seen = sightings.filter((sighting) => sighting.layer === layer);
      layers.push(await mapLayer(model.stream, seen, blocks, model.spec.heads, names));
    }
    return { tokens: tokens.length, blocks, told: names, layers };
  } finally {
    disposeSightings(sightings);
  }
}

/** The calls of one layer as one map. */
async function mapLayer(
  stream: Stream,
  sightings: readonly Sighting[],
  blocks: number,
  heads: number,
  names: readonly string[],
): Promise<LayerMap> {
  if (sightings.length === 0) {
    throw new AccelError(
      'ERR_ACCEL_INTERNAL',
      `No call of this prompt had ${BLOCK} queries, so there are no blocks to look at.`,
    );
  }
  const size = blockIndex(blocks, 0);
  const mass = Array.from({ length: heads }, () => new Float32Array(size).fill(NaN));
  const computed = Array.from({ length: heads }, () => new Uint8Array(size).fill(1));
  const told = Array.from({ length: heads }, () => new Map<Sighting, Float32Array>());
  for (const sighting of sightings) {
    const begin = sighting.first / BLOCK;
    const rows = blocksOf(sighting.m);
    const columns = begin + rows;
    const values = (await sighting.mass.read(stream)) as Float32Array;
    const words = (await sighting.mask?.read(stream)) as Int32Array | undefined;
    const figures = (await sighting.figures?.read(stream)) as Float32Array | undefined;
    const wordsPerRow = Math.ceil(columns / 32);
    for (let h = 0; h < heads; h++) {
      const [headMass, headComputed] = [mass[h], computed[h]];
      if (headMass === undefined || headComputed === undefined) continue;
      for (let i = 0; i < rows; i++) {
        const from = (h * rows + i) * columns;
        const at = blockIndex(begin + i, 0);
        headMass.set(values.subarray(from, from + begin + i + 1), at);
        if (words === undefined) continue;
        for (let j = 0; j < begin + i; j++) {
          const word = words[(i * heads + h) * wordsPerRow + (j >> 5)] ?? 0;
          headComputed[at + j] = (word >>> (j & 31)) & 1;
        }
      }
      if (figures === undefined) continue;
      const count = figures.length / heads;
      told[h]?.set(sighting, figures.subarray(h * count, (h + 1) * count));
    }
  }
  const spans = spansOf(sightings, blocks);
  return {
    spans,
    heads: mass.map((headMass, h) => {
      const headComputed = computed[h] ?? new Uint8Array();
      const headTold = told[h] ?? new Map<Sighting, Float32Array>();
      return {
        mass: headMass,
        computed: headComputed,
        chosen: figuresOf(headMass, headComputed, spans, headTold, names),
      };
    }),
  };
}

/** Row blocks by how they attended, in order and without holes. */
function spansOf(sightings: readonly Sighting[], blocks: number): RowSpan[] {
  const spans: RowSpan[] = [];
  const unseen = (first: number, end: number): void => {
    if (first >= end) return;
    spans.push({ first, end, state: 'unseen', reason: `fewer than ${BLOCK} queries in one call` });
  };
  let next = 0;
  for (const { first, m, dense } of [...sightings].sort((a, b) => a.first - b.first)) {
    const begin = first / BLOCK;
    unseen(next, begin);
    next = begin + blocksOf(m);
    const last = spans.at(-1);
    const state = dense === undefined ? 'chosen' : 'dense';
    if (last?.state === state && last.reason === dense)
      spans[spans.length - 1] = { ...last, end: next };
    else
      spans.push({ first: begin, end: next, state, ...(dense !== undefined && { reason: dense }) });
  }
  unseen(next, blocks);
  return spans;
}

function figuresOf(
  mass: Float32Array,
  computed: Uint8Array,
  spans: readonly RowSpan[],
  told: ReadonlyMap<Sighting, Float32Array>,
  names: readonly string[],
): HeadFigures | undefined {
  let [rows, causal, taken, sum] = [0, 0, 0, 0];
  let [min, minRow] = [Infinity, -1];
  for (const { first, end, state } of spans) {
    if (state !== 'chosen') continue;
    for (let i = first; i < end; i++) {
      let recall = 0;
      for (let at = blockIndex(i, 0); at <= blockIndex(i, i); at++) {
        if (computed[at] !== 1) continue;
        taken++;
        recall += mass[at] ?? NaN;
      }
      rows++;
      causal += i + 1;
      sum += recall;
      if (recall < min) [min, minRow] = [recall, i];
    }
  }
  if (rows === 0) return undefined;
  return {
    density: taken / causal,
    told: joinTold(told, names),
    recall: { mean: sum / rows, min, minRow },
  };
}

/** What a method tells of its calls: means over row blocks, or as receipts have it the smallest of a name with `min`. */
function joinTold(told: ReadonlyMap<Sighting, Float32Array>, names: readonly string[]): number[] {
  const calls = [...told];
  const blocks = calls.reduce((sum, [{ m }]) => sum + blocksOf(m), 0);
  return names.map((name, index) => {
    const figures = calls.map(([, figure]) => figure[index] ?? NaN);
    if (name.startsWith('min')) return Math.min(...figures);
    return (
      calls.reduce((sum, [{ m }], call) => sum + blocksOf(m) * (figures[call] ?? NaN), 0) / blocks
    );
  });
}
