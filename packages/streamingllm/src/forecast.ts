import type { LayerForecast, PromptOutline } from '@accel/core';
import { dtypeBytes } from '@accel/kernels';
import { cut } from './rules.js';
import { windowOf, type StreamingllmSettings } from './settings.js';

/** Rows that stay of a first prompt, and where the others leave. */
export function forecast(settings: StreamingllmSettings, { tokens }: PromptOutline): LayerForecast {
  // Room is made before a turn, and the first one finds an empty cache.
  if (settings.trim === 'turn') return { rows: tokens };
  const window = windowOf(settings, tokens);
  const { at, count } = cut(window, tokens);
  const rows = tokens - count;
  if (settings.trim === 'prompt') return { rows };
  const { sink, recent } = window;
  return { rows, dropAt: at, decode: { rows: sink + recent, recent } };
}

/** What `SinkAttention` keeps for the queries of a chunk; a dense first prompt needs none of it. */
export function scratchBytes(
  settings: StreamingllmSettings,
  { spec, dtype, tokens, chunkTokens }: PromptOutline,
): number {
  const { sink, recent } = windowOf(settings, tokens);
  const limited = settings.prefill === 'banded' && tokens > sink + recent + 1;
  if (!limited || sink === 0) return 0;
  const { heads, headDim, rotaryDim } = spec;
  // Turned queries and the outputs of two attentions; the log-sum-exp of both; a table of angles.
  const query = 3 * heads * headDim * dtypeBytes(dtype) + 2 * heads * 4 + rotaryDim * 4;
  return Math.min(tokens, chunkTokens) * query;
}
