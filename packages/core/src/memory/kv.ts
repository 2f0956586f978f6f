import { DecodeSteps } from './kv-decode.js';
import { PromptPlan, type KvQuestion } from './kv-plan.js';
import { PromptRun } from './kv-prompt.js';

/** Pages of the caches of all sequences, in bytes. */
export interface KvForecast {
  /** The most at any time. */
  readonly peak: number;
  /** When all prompts have been read. */
  readonly afterPrompt: number;
  /** When all tokens have been decoded. */
  readonly afterDecode: number;
  /** What one more decoded token adds to one sequence, on average over many. */
  readonly perToken: number;
  /** Pages of one sequence when its prompt has been read, of each layer; all heads of a layer have equally many. */
  readonly layerPages: readonly number[];
}

/** Tokens over which the growth of a cache is averaged: whole blocks of every codec and whole pages of every list. */
const GROWTH_TOKENS = 8192;
/**
 * Goes through a prompt as the engine does (append.ts and engine/end-layer.ts), with row numbers in place of rows: a layer gets
 * its rows, rows leave, what stays is encoded, and the most pages that were held meanwhile are the peak.
 * @throws AccelError `ERR_ACCEL_POLICY` when a part gives no forecast
 */
export function forecastKv(question: KvQuestion): KvForecast {
  const { spec, batch, together, pageBytes, decodeTokens } = question;
  const plan = new PromptPlan(question);
  const prompt = new PromptRun(plan, together ? batch : 1).finish();
  const before = together ? 0 : (batch - 1) * prompt.pages;
  const steps = new DecodeSteps(plan, prompt.heads);
  const growth =
    steps.pages(decodeTokens + 2 * GROWTH_TOKENS) - steps.pages(decodeTokens + GROWTH_TOKENS);
  return {
    peak: pageBytes * Math.max(before + prompt.peak, batch * steps.peak(decodeTokens)),
    afterPrompt: pageBytes * batch * prompt.pages,
    afterDecode: pageBytes * batch * steps.pages(decodeTokens),
    perToken: (pageBytes * growth) / GROWTH_TOKENS,
    layerPages: prompt.heads.map((head) => spec.kvHeads * plan.pages.of(head)),
  };
}
