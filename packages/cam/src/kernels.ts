import { fileURLToPath } from 'node:url';
import {
  loadOpLibrary,
  type KvArg,
  type Op,
  type OpLibrary,
  type Stream,
  type Tensor,
} from '@accel/kernels';
import type { CamSettings } from './settings.js';

/** The op library of this package; the same path from `src` and from `dist`. */
export const LIBRARY: string = fileURLToPath(
  new URL('../build/Release/accel_cam.so', import.meta.url),
);
let library: OpLibrary | undefined;
const ops = new Map<string, Op>();

function op(name: string): Op {
  let found = ops.get(name);
  if (found === undefined) {
    library ??= loadOpLibrary(LIBRARY);
    ops.set(name, (found = library.op(name)));
  }
  return found;
}

/** Where random numbers come from, and where to write what was decided. Numbers of a prompt are `[kvHeads, rows]`. */
export interface Draw {
  readonly gate: CamSettings['gate'];
  /** Gates depend on this, the layer, the head and the position of the row. */
  readonly seed: number;
  /** Given numbers instead, float32 `[kvHeads]` in [0, 1]: a value is folded if its number is below p. */
  readonly uniforms?: Tensor;
  /** Receives the probabilities, float32 `[kvHeads]`. */
  readonly p?: Tensor;
  /** Receives 1 where a value was folded, int32 `[kvHeads]`. */
  readonly merged?: Tensor;
}

const GATES = { never: 0, always: 1, bernoulli: 2 } as const;
const ANY_ROW = 2 ** 31 - 1;

/** Options of {@link camMerge}. */
export interface MergeOptions extends Pick<CamSettings, 'targets' | 'divisor' | 'recent'> {
  readonly layer: number;
  /** Which number of a row's record is the attention it received. */
  readonly tally: number;
}

/**
 * Folds the value of one row of each head into the rows after it, in place: the op of `kernels/cam_merge.cc`. Enqueues
 * and returns. No page of the layer may be shared with a fork.
 *
 * @param kv one sequence
 * @param victim its number, or int32 `[kvHeads]` with one for each head
 */
export function camMerge(
  stream: Stream,
  kv: KvArg,
  victim: number | Tensor,
  draw: Draw,
  { layer, tally, targets, divisor, recent }: MergeOptions,
): void {
  const single = typeof victim === 'number';
  stream.run(
    op('cam_merge'),
    draw.p ?? null,
    draw.merged ?? null,
    kv,
    single ? null : victim,
    single ? victim : 0,
    draw.uniforms ?? null,
    GATES[draw.gate],
    draw.seed,
    layer,
    tally,
    targets,
    recent ?? ANY_ROW,
    divisor === 'targets' ? targets : 0,
  );
}

/** Options of {@link camSmear}. */
export interface SmearOptions extends Pick<CamSettings, 'denominator'> {
  readonly layer: number;
  /** Rows that a value is folded into; the last so many are not folded themselves. At most 1024. */
  readonly window: number;
  /** Rows before it are not folded. */
  readonly start: number;
}

/**
 * Folds values through a prompt, row after row, in place: the op of `kernels/cam_smear.cc`. Enqueues and returns. No page
 * of the layer may be shared with a fork.
 *
 * @param kv one sequence whose heads all have n rows
 * @param scores float32 `[kvHeads, n]`, attention from the last queries in any unit
 */
export function camSmear(
  stream: Stream,
  kv: KvArg,
  scores: Tensor,
  draw: Draw,
  { layer, window, start, denominator }: SmearOptions,
): void {
  stream.run(
    op('cam_smear'),
    draw.p ?? null,
    draw.merged ?? null,
    kv,
    scores,
    draw.uniforms ?? null,
    GATES[draw.gate],
    draw.seed,
    layer,
    window,
    start,
    denominator === 'moving' ? 0 : 1,
  );
}
