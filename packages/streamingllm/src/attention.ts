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
   * Fills `call.out` and, when it is asked for, `call.lse`.
   * @throws AccelError `ERR_ACCEL_POLICY` when the log-sum-exp is asked for and queries do not see all rows before them
   */
  run(call: AttendCall, window: Window): void {
    const { out, lse, q, kv, layer, rows, m, firstPosition, scale, stream } = call;
    const lens = Int32Array.of(m);
    const causal = { scale, causal: true };
    // Rows that queries of this call are too far away from.
    const limited = this.#settings.banded && rows > window.sink + window.recent + 1;
    const dropped = firstPosition - (rows - m);
    const moved = this.#settings.positions === 'cacheRelative' && (dropped > 0 || limited);
    const band = limited ? { ...causal, window: window.recent + 1 } : causal;
    if (limited && lse !== null) throw uncounted();
    if (!(limited || moved) || window.sink === 0) {
      ops.attention(stream, out, lse, q, kv.kv(layer), lens, band);
      if (lse !== null) call.attended(q, 0, rows);
      return;
    }
    const { sinks, near } = this.#reserve(m);
    const sinkQuery = moved ? this.#turn(call, window, limited) : q;
    const border = Math.min(window.sink, rows);
    const sinkRows = Int32Array.of(0, border);
    const nearRows = Int32Array.of(border, rows);
    ops.attention(stream, sinks.out, sinks.lse, sinkQuery, kv.kv(layer), lens, {
      ...causal,
      ranges: sinkRows,
    });
    ops.attention(stream, near.out, near.lse, q, kv.kv(layer), lens, { ...band, ranges: nearRows });
    streamingllmMerge(stream, out, lse, sinks, near);
    if (lse === null) return;
    call.attended(sinkQuery, 0, border);
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

function uncounted(): AccelError {
  return new AccelError(
    'ERR_ACCEL_POLICY',
    'StreamingLLM: with prefill "banded" the tokens of a prompt do not see all rows, so the attention that rows receive cannot be counted for another part of the policy. Use prefill "dense".',
  );
}
