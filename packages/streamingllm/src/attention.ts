import { AccelError, type AttendCall, type ModelSpec, type PartSetup } from '@accel/core';
import { ops, Tensor } from '@accel/kernels';
import { streamingllmMerge, type Share } from './merge.js';
import { streamIndex, type Window } from './rules.js';

/** How {@link SinkAttention} places and limits queries. */
export interface AttentionSettings {
  readonly positions: 'cacheRelative' | 'original';
  /** Every query sees the sinks and its own `recent` predecessors only, also inside a prompt. */
  readonly banded: boolean;
}

/**
 * Attention with a hole between sinks and window. Keys are stored rotated at their original positions. Rotary logits
 * depend on differences alone, so instead of rotating keys again the query is rotated twice: for the window at its
 * original position, for the sinks at its position inside the cache. The two results are merged by log-sum-exp.
 *
 * Scratch tensors are kept while the number of queries stays the same; the stream runs in order, so the next call may
 * overwrite them.
 */
export class SinkAttention implements Disposable {
  readonly #setup: PartSetup;
  readonly #settings: AttentionSettings;
  #scratch: Scratch | undefined;

  constructor(setup: PartSetup, settings: AttentionSettings) {
    this.#setup = setup;
    this.#settings = settings;
  }

  /**
   * Fills `call.out` and, when it is asked for, `call.lse`. A sliding window of the model (`call.window`) limits the
   * distance at which rows are used: the original one, or with `cacheRelative` that inside the cache, where sinks are at
   * most S + R back however long the stream is.
   * @throws AccelError `ERR_ACCEL_POLICY` when the log-sum-exp is asked for and queries do not see all rows before them,
   * or when the model's window ends among the sinks of a banded prompt
   */
  run(call: AttendCall, window: Window): void {
    const { out, lse, q, kv, layer, rows, m, firstPosition, scale, stream } = call;
    const lens = Int32Array.of(m);
    const causal = { scale, causal: true };
    // Rows that queries of this call are too far away from.
    const limited = this.#settings.banded && rows > window.sink + window.recent + 1;
    const dropped = firstPosition - (rows - m);
    const moved = this.#settings.positions === 'cacheRelative' && (dropped > 0 || limited);
    // Without the sinks, rows are without holes: distances in rows, in positions and inside the cache are the same.
    const band = {
      ...causal,
      window: limited ? narrower(window.recent + 1, call.window) : call.window,
    };
    if (limited && lse !== null) throw uncounted();
    if (!(limited || moved) || window.sink === 0) {
      ops.attention(stream, out, lse, q, kv.kv(layer), lens, band);
      if (lse !== null) call.attended(q, 0, rows);
      return;
    }
    const reach = moved ? sinkReach(window, call.window, dropped, limited) : call.window;
    const { sinks, near } = this.#reserve(m);
    const sinkQuery = moved ? this.#turn(call, window, limited) : q;
    const border = Math.min(window.sink, rows);
    const sinkRows = Int32Array.of(0, border);
    const nearRows = Int32Array.of(border, rows);
    ops.attention(stream, sinks.out, sinks.lse, sinkQuery, kv.kv(layer), lens, {
      ...causal,
      window: reach,
      ranges: sinkRows,
    });
    ops.attention(stream, near.out, near.lse, q, kv.kv(layer), lens, { ...band, ranges: nearRows });
    streamingllmMerge(stream, out, lse, sinks, near);
    if (lse === null) return;
    call.attended(sinkQuery, 0, border, reach);
    call.attended(q, border, rows);
  }

  /** The queries turned from their original positions to their positions inside the cache. */
  #turn(
    { q, rows, m, firstPosition, stream }: AttendCall,
    window: Window,
    limited: boolean,
  ): Tensor {
    const scratch = this.#reserve(m);
    const { table, turned } = scratch;
    const key = `${firstPosition} ${rows}`;
    const frequencies = this.#setup.rope(firstPosition + m);
    // The same for all layers of a step.
    if (scratch.tableKey !== key) {
      const turns = Int32Array.from({ length: m }, (_, i) => {
        const row = rows - m + i;
        return (limited ? streamIndex(window, row) : row) - (firstPosition + i);
      });
      using positions = Tensor.from(this.#setup.device, turns, [m]);
      // Factor 1: the query already carries the amplitude of a YaRN model.
      ops.ropeTable(stream, table, positions, frequencies.invFreq, 1);
      scratch.tableKey = key;
    }
    ops.gatherRows(stream, turned, q, scratch.all);
    ops.rope(stream, turned, table, frequencies.interleaved);
    return turned;
  }

  #reserve(m: number): Scratch {
    if (this.#scratch?.all.length !== m) {
      this.#scratch?.dispose();
      this.#scratch = new Scratch(this.#setup, m);
    }
    return this.#scratch;
  }

  dispose(): void {
    this.#scratch?.dispose();
    this.#scratch = undefined;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Tensors for `m` queries. */
class Scratch implements Disposable {
  /** 0 … m - 1 */
  readonly all: Int32Array;
  readonly turned: Tensor;
  readonly table: Tensor;
  readonly sinks: Share;
  readonly near: Share;
  /** What `table` was made for. */
  tableKey = '';

  constructor({ device, dtype, spec }: PartSetup, m: number) {
    const share = (): Share => ({
      out: Tensor.empty(device, dtype, [m, spec.heads, spec.headDim]),
      lse: Tensor.empty(device, 'float32', [m, spec.heads]),
    });
    this.all = Int32Array.from({ length: m }, (_, i) => i);
    this.turned = Tensor.empty(device, dtype, [m, spec.heads, spec.headDim]);
    this.table = Tensor.empty(device, 'float32', [m, spec.rotaryDim / 2, 2]);
    this.sinks = share();
    this.near = share();
  }

  dispose(): void {
    const { turned, table, sinks, near } = this;
    for (const tensor of [turned, table, sinks.out, sinks.lse, near.out, near.lse])
      tensor.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/**
 * Why keys cannot be used at their place in the cache: turning a query is exact only while the frequencies of stored keys
 * are the query's.
 */
export function rotationProblem(spec: ModelSpec): string | undefined {
  if (spec.rope.kind !== 'dynamic') return undefined;
  return 'the frequencies of dynamic rope scaling change with the length, so keys have no fixed position inside the cache; use positions "original"';
}

/** @throws AccelError `ERR_ACCEL_POLICY` for dynamic NTK scaling, whose frequencies change with the length */
export function assertFixedRotation(spec: ModelSpec): void {
  const problem = rotationProblem(spec);
  if (problem === undefined) return;
  throw new AccelError('ERR_ACCEL_POLICY', `StreamingLLM and ${spec.name}: ${problem}.`);
}

/** The narrower of two windows, the second of which may be none. */
function narrower(a: number, b: number): number {
  return b === 0 ? a : Math.min(a, b);
}

/**
 * The model's window for queries that use sinks at their place in the cache, as one of original positions. Sinks have the
 * positions 0, 1, …, so each is `dropped` nearer inside the cache than it was originally. In a banded prompt none is ever
 * further than S + R: either the window goes that far, or late tokens see no sink at all.
 */
function sinkReach(stream: Window, window: number, dropped: number, limited: boolean): number {
  if (window === 0) return 0;
  if (limited && stream.recent < window) {
    if (stream.sink + stream.recent < window) return 0;
    throw halfSeen(stream, window);
  }
  return window + dropped;
}

function halfSeen({ sink, recent }: Window, window: number): AccelError {
  return new AccelError(
    'ERR_ACCEL_POLICY',
    `StreamingLLM: the model's sliding window of ${String(window)} positions ends among the ${String(sink)} sinks of a stream with ${String(recent)} recent rows, which prefill "banded" cannot do. Use sink + recent below ${String(window)}, or prefill "dense".`,
  );
}

function uncounted(): AccelError {
  return new AccelError(
    'ERR_ACCEL_POLICY',
    'StreamingLLM: with prefill "banded" the tokens of a prompt do not see all rows, so the attention that rows receive cannot be counted for another part of the policy. Use prefill "dense".',
  );
}
