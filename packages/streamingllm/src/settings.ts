import {
  AccelError,
  budget,
  parseOptions,
  resolveBudget,
  type Budget,
  type OptionsReader,
} from '@accel/core';
import { z } from 'zod';
import type { Window } from './rules.js';

/** Options of `streamingllm`. */
export interface StreamingllmOptions {
  /** First rows of the stream, which always stay. 0 is a plain sliding window. Default 4. */
  readonly sink?: number;
  /** Newest rows that stay. Default: the budget less the sinks. Give this or `budget`. */
  readonly recent?: number;
  /** Rows kept per layer and kv head, sinks included; a share is of the first prompt. Default `{ tokens: 1024 }`. */
  readonly budget?: Budget;
  /**
   * `cacheRelative`: a token's position is its place in the cache, as published. `original`: its place in the stream;
   * the model then sees distances as long as the stream. Default `'cacheRelative'`.
   */
  readonly positions?: 'cacheRelative' | 'original';
  /**
   * `dense`: the prompt attends to all of itself and is cut afterwards. `banded`: each of its tokens sees the sinks and
   * its own `recent` predecessors only, as if it came token by token; time grows linearly, and a prompt may be longer
   * than the model's context. Default `'dense'`.
   */
  readonly prefill?: 'dense' | 'banded';
  /**
   * When rows leave. `token`: after the prompt and after every token, so memory is constant. `turn`: before each turn,
   * to make room for it; none leave during a turn. `prompt`: once, after the first prompt. Default `'token'`.
   */
  readonly trim?: 'token' | 'turn' | 'prompt';
  /** Tokens of an answer that `trim: 'turn'` makes room for, besides the turn's own. Default 256. */
  readonly reserve?: number;
}

/** Options as given: no window yet, and a budget that has not been checked. */
type Given = {
  readonly sink: number;
  readonly recent?: number | undefined;
  readonly budget?:
    { readonly tokens?: number | undefined; readonly keep?: number | undefined } | undefined;
  readonly positions: 'cacheRelative' | 'original';
  readonly prefill: 'dense' | 'banded';
  readonly trim: 'token' | 'turn' | 'prompt';
  readonly reserve: number;
};

const schema: z.ZodType<Given> = z.object({
  sink: z.int().min(0).default(4),
  recent: z.int().min(1).optional(),
  budget: z.object({ tokens: z.number().optional(), keep: z.number().optional() }).optional(),
  positions: z.enum(['cacheRelative', 'original']).default('cacheRelative'),
  prefill: z.enum(['dense', 'banded']).default('dense'),
  trim: z.enum(['token', 'turn', 'prompt']).default('token'),
  reserve: z.int().min(0).default(256),
});

/** {@link StreamingllmOptions}, checked and complete: a window of rows, or a budget that becomes one. */
export type StreamingllmSettings = Omit<Given, 'recent' | 'budget'> &
  ({ recent: number } | { budget: Budget });

/** Our names. The seed toolkit's are translated by `fromLoom`. */
export const reader: OptionsReader<Given> = { title: 'StreamingLLM', schema };

/** Checks options and fills in defaults. @throws AccelError `ERR_ACCEL_BUDGET`, `ERR_ACCEL_POLICY` */
export function settingsFrom(options: unknown): StreamingllmSettings {
  const { recent, budget: rows, ...rest } = parseOptions(reader, options);
  if (rest.prefill === 'banded' && rest.trim !== 'token') {
    throw refused(
      `prefill "banded" drops rows token by token, so trim "${rest.trim}" cannot be. Use trim "token", or prefill "dense".`,
    );
  }
  if (recent !== undefined) {
    if (rows === undefined) return { ...rest, recent };
    throw refused('recent and budget both say how many rows stay. Give one of them.');
  }
  const limits = { minimum: rest.sink + 1, reason: `${rest.sink} sinks and the newest row` };
  return { ...rest, budget: budget((rows ?? { tokens: 1024 }) as Budget, limits) };
}

/**
 * The window for a stream that begins with a prompt of `tokens`; a small share still leaves one recent row.
 * @returns undefined when it depends on the prompt and there is none yet
 */
export function windowOf(settings: StreamingllmSettings, tokens: number): Window;
export function windowOf(settings: StreamingllmSettings, tokens?: number): Window | undefined;
export function windowOf(settings: StreamingllmSettings, tokens?: number): Window | undefined {
  const { sink } = settings;
  if ('recent' in settings) return { sink, recent: settings.recent };
  const { budget: rows } = settings;
  if ('tokens' in rows) return { sink, recent: rows.tokens - sink };
  if (tokens === undefined) return undefined;
  return { sink, recent: Math.max(1, resolveBudget(rows, tokens) - sink) };
}

function refused(text: string): AccelError {
  return new AccelError('ERR_ACCEL_POLICY', `StreamingLLM: ${text}`);
}
