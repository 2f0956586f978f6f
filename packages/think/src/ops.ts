import { fileURLToPath } from 'node:url';
import type { EncodedAttendCall } from '@accel/core';
import {
  loadOpLibrary,
  type KvArg,
  type Op,
  type OpLibrary,
  type Stream,
  type Tensor,
} from '@accel/kernels';
import type { ThinkSettings } from './settings.js';

/** The op library; the same path from `src` and from `dist`. */
export const LIBRARY: string = fileURLToPath(
  new URL('../build/Release/accel_think.so', import.meta.url),
);
let library: OpLibrary | undefined;
const found = new Map<string, Op>();

function op(name: string): Op {
  let op = found.get(name);
  if (op === undefined) found.set(name, (op = (library ??= loadOpLibrary(LIBRARY)).op(name)));
  return op;
}

/**
 * Mean squares of queries, by kv head: `kernels/think_scores.cc`. Enqueues.
 * @param out float32 `[kvHeads, headDim]` @param queries `[w, heads, headDim]`
 */
export function thinkQueries(
  stream: Stream,
  out: Tensor,
  queries: Tensor,
  reduce: ThinkSettings['groupReduce'],
): void {
  stream.run(op('think_queries'), out, queries, reduce === 'mean' ? 0 : 1);
}

/**
 * How much each channel matters: mean squares of queries times those of the oldest `rows` keys, which must be plain.
 * `kernels/think_scores.cc`. Enqueues.
 * @param out float32 `[kvHeads, headDim]` @param queries what {@link thinkQueries} gave @param kv one sequence
 */
export function thinkScores(
  stream: Stream,
  out: Tensor,
  queries: Tensor,
  kv: KvArg,
  rows: number,
): void {
  stream.run(op('think_scores'), out, queries, kv, rows);
}

/**
 * Writes the channels with the highest scores into the headers of encoded keys: `kernels/think_channels.cc`. Enqueues.
 * @param kv one sequence, while its keys are being encoded @param scores float32 `[kvHeads, headDim]` @param channels how many
 */
export function thinkChannels(stream: Stream, kv: KvArg, scores: Tensor, channels: number): void {
  stream.run(op('think_channels'), kv, scores, channels);
}

/**
 * Encodes keys with the channels that the headers name: `kernels/think_prune.cc`. Enqueues.
 * @param most no head has more rows to encode
 */
export function thinkPrune(stream: Stream, kv: KvArg, channels: number, most: number): void {
  stream.run(op('think_prune'), kv, channels, most);
}

/** Causal attention over keys of which the oldest have `channels` channels: `kernels/think_attention.cc`. Enqueues. */
export function thinkAttention(call: EncodedAttendCall, channels: number): void {
  const { stream, out, lse, q, kv, lens, scale, window } = call;
  stream.run(op('think_attention'), out, lse, q, kv, lens, scale, channels, window);
}

/**
 * What is stored of pruned keys: `kernels/think_read.cc`. Enqueues.
 * @param channels int32 `[kvHeads, kept]` or null @param k `[kvHeads, rows, kept]` or null, rows the most of any head
 * @param kv one sequence
 */
export function thinkRead(
  stream: Stream,
  channels: Tensor | null,
  k: Tensor | null,
  kv: KvArg,
  kept: number,
): void {
  stream.run(op('think_read'), channels, k, kv, kept);
}
