import type { SummaryAverage } from './summary.js';

/** RULER's threshold: what Llama-2-7B (chat) scores at 4K (Hsieh et al., 2024, arXiv:2404.06654). */
export const EFFECTIVE_SCORE: number = 85.6;

/** What RULER derives from the means of several lengths. */
export interface RulerFigures {
  /** Longest length whose mean is at least {@link EFFECTIVE_SCORE}; null when none is. */
  readonly effectiveLength: number | null;
  /** Means over lengths, weighted 1, 2, 3, … with rising, and with falling length; null when a length has no score. */
  readonly increasing: number | null;
  readonly decreasing: number | null;
}

/** @param averages of one method and mode, in any order */
export function rulerFigures(averages: readonly SummaryAverage[]): RulerFigures {
  const scores = averages
    .flatMap(({ length, score }) => (length === null ? [] : [{ length, score }]))
    .sort((a, b) => a.length - b.length);
  const effective = scores.filter(({ score }) => score !== null && score >= EFFECTIVE_SCORE);
  const known = scores.flatMap(({ score }) => score ?? []);
  const complete = known.length > 0 && known.length === scores.length;
  return {
    effectiveLength: effective.at(-1)?.length ?? null,
    increasing: complete ? rankWeighted(known) : null,
    decreasing: complete ? rankWeighted(known.toReversed()) : null,
  };
}

function rankWeighted(scores: readonly number[]): number {
  const sum = scores.reduce((total, score, i) => total + (i + 1) * score, 0);
  return sum / ((scores.length * (scores.length + 1)) / 2);
}
